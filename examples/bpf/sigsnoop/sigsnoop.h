#ifndef SIGSNOOP_H
#define SIGSNOOP_H

#define COMM_LEN 16

struct event {
    unsigned int pid;  // the sender
    unsigned int tpid; // the target as the sender named it
    int sig;
    int ret; // 0, or a negative errno
    char comm[COMM_LEN];
};

#endif
