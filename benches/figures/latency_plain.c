// Latency of plain libbpf. usage: latency_plain OBJECT
#include "latency.h"
#include "plain.h"

static int on_event(void *arg, void *data, size_t size) {
    (void)arg, (void)size;
    arrived(*(const uint64_t *)data, clock_ns(CLOCK_MONOTONIC));
    return 0;
}

static struct host host = {.on_ring = on_event};

static void start(const char *path) {
    plain_load(&host, path);
    plain_attach(&host);
}

static void drain(void) {
    plain_poll(&host);
}

int main(int argc, char **argv) {
    return measure_latency(argc, argv);
}
