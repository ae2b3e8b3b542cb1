#ifndef LSM_CONNECT_H
#define LSM_CONNECT_H

#define COMM_LEN 16

struct event {
    int pid;
    unsigned char addr[4]; ///< @format ipv4
    unsigned short port;
    char comm[COMM_LEN];
};

#endif
