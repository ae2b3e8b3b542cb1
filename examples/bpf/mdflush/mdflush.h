#ifndef MDFLUSH_H
#define MDFLUSH_H

#define COMM_LEN 16
#define DISK_LEN 32

struct event {
    int pid;
    char comm[COMM_LEN];
    char disk[DISK_LEN];
};

#endif
