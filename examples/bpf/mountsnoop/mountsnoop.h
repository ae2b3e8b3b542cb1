#ifndef MOUNTSNOOP_H
#define MOUNTSNOOP_H

#define COMM_LEN 16
#define TYPE_LEN 16
#define PATH_LEN 256
#define DATA_LEN 256

enum operation {
    MOUNT,
    UMOUNT,
};

struct event {
    unsigned long long delta_ns; ///< @format duration
    unsigned long long flags;    // MS_* of mount, MNT_* of umount
    int pid;
    unsigned int mnt_ns; // inode number of the mount namespace
    int ret;             ///< @format errno
    enum operation op;
    char comm[COMM_LEN];
    char fs[TYPE_LEN]; // of mount only, as src and data
    char src[PATH_LEN];
    char dest[PATH_LEN];
    char data[DATA_LEN];
};

#endif
