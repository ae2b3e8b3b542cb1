#ifndef EXECSNOOP_H
#define EXECSNOOP_H

#define COMM_LEN 16
#define ARGS_LEN 512 // a power of two

struct event {
    int pid;
    int ppid;
    unsigned int uid;
    unsigned int args_size; // bytes of all arguments; those that did not fit into args included
    char comm[COMM_LEN];
    char args[ARGS_LEN]; // separated by spaces
};

#endif
