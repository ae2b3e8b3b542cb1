// Runs an object on plain libbpf until it is killed. Prints "ready" before it waits for events.
// usage: plain_host OBJECT
#include "plain.h"

int main(int argc, char **argv) {
    struct host host = {0};

    if (argc != 2)
        die("usage", "plain_host OBJECT");
    plain_load(&host, argv[1]);
    plain_attach(&host);
    puts("ready");
    fflush(stdout);
    for (;;)
        plain_poll(&host);
}
