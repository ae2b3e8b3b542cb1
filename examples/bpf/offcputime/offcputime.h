#ifndef OFFCPUTIME_H
#define OFFCPUTIME_H

#define COMM_LEN 16
#define MAX_STACK_DEPTH 64

struct event {
    unsigned int pid;
    unsigned int tid;
    unsigned long long off_us; // microseconds without a CPU
    char comm[COMM_LEN];
    int kstack_sz; // bytes of kstack in use, or a negative errno
    int ustack_sz;
    unsigned long long kstack[MAX_STACK_DEPTH]; ///< @format stack
    unsigned long long ustack[MAX_STACK_DEPTH]; ///< @format stack
};

#endif
