#ifndef TC_H
#define TC_H

struct event {
    unsigned int ifindex;
    unsigned int len; // bytes, from the link layer header on
    unsigned char ttl;
    unsigned char protocol; // as in the IPv4 header: 1 ICMP, 6 TCP, 17 UDP
    unsigned char saddr[4];
    unsigned char daddr[4];
};

#endif
