#ifndef BOOTSTRAP_H
#define BOOTSTRAP_H

#ifndef __VMLINUX_H__
#include <stdbool.h>
#endif

#define COMM_LEN 16
#define FILENAME_LEN 128

struct event {
    int pid;
    int ppid;
    unsigned int exit_code;
    unsigned long long duration_ns; ///< @format duration
    char comm[COMM_LEN];
    char filename[FILENAME_LEN];
    bool exit_event;
};

#endif
