#ifndef XDP_H
#define XDP_H

struct traffic {
    unsigned long long packets;
    unsigned long long bytes;
};

#endif
