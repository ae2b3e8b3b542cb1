#ifndef PYTHONGC_H
#define PYTHONGC_H

#define COMM_LEN 16

struct event {
    int pid;
    int generation;                 // 0 to 2; a higher one examines more objects
    long long collected;            // objects that were freed
    unsigned long long duration_ns; ///< @format duration
    char comm[COMM_LEN];
};

#endif
