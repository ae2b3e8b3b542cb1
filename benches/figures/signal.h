// The event that the figures are about. Both sides of every comparison read the same records.
#ifndef SIGNAL_H
#define SIGNAL_H

struct signal {
    unsigned int pid, tpid;
    int sig, ret;
    char comm[16];
};

#define EVENTS_PER_RUN 1000

#endif
