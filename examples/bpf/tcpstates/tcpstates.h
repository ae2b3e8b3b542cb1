#ifndef TCPSTATES_H
#define TCPSTATES_H

#define COMM_LEN 16

struct event {
    unsigned __int128 saddr; // bytes in network order; IPv4 in the first four
    unsigned __int128 daddr;
    unsigned long long skaddr;
    unsigned long long ts_us;    // microseconds since boot
    unsigned long long delta_us; // time spent in the old state, 0 when unknown
    unsigned int pid;
    int oldstate; // TCP_ESTABLISHED and so on, as the kernel numbers them
    int newstate;
    unsigned short family;
    unsigned short sport;
    unsigned short dport;
    char task[COMM_LEN];
};

#endif
