#ifndef OPENSNOOP_H
#define OPENSNOOP_H

#define COMM_LEN 16
#define FILENAME_LEN 256

struct event {
    unsigned long long ts; // nanoseconds since boot
    int pid;
    unsigned int uid;
    /// The new descriptor, or a negative errno.
    /// @format errno
    int ret;
    int flags;
    char comm[COMM_LEN];
    char fname[FILENAME_LEN];
};

#endif
