#ifndef SLEEPS_H
#define SLEEPS_H

#define TASK_COMM_LEN 16

enum hook { HOOK_FENTRY, HOOK_KPROBE, HOOK_TRACEPOINT };

struct event {
    int pid;
    enum hook hook;
    char comm[TASK_COMM_LEN];
};

#endif
