#ifndef HELLO_H
#define HELLO_H

struct event {
    int pid;
    char comm[16];
};

#endif
