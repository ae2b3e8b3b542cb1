#ifndef TCPSTATES_H
#define TCPSTATES_H

#define COMM_LEN 16

struct event {
    /// IPv4 addresses are mapped ones, ::ffff:a.b.c.d.
    /// @format ipv6
    unsigned char saddr[16], daddr[16];
    unsigned long long skaddr;   ///< @format hex
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
