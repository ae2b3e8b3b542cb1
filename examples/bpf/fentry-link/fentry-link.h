#ifndef FENTRY_LINK_H
#define FENTRY_LINK_H

#ifndef __VMLINUX_H__
#include <stdbool.h>
#endif

#define COMM_LEN 16
#define FILENAME_LEN 128

struct event {
    int pid;
    /// Meaningful once the call returned.
    /// @format errno
    long long ret;
    bool returned;
    char comm[COMM_LEN];
    char filename[FILENAME_LEN]; // empty once the call returned
};

#endif
