#ifndef BASHREADLINE_H
#define BASHREADLINE_H

#define COMM_LEN 16
#define LINE_LEN 256

struct event {
    int pid;
    char comm[COMM_LEN];
    char line[LINE_LEN]; // longer lines are cut off
};

#endif
