// Runs an object many times on plain libbpf, with one ring buffer manager for all. usage: many_plain OBJECT
// COUNT
#include "many.h"
#include "plain.h"

static struct host hosts[MOST_PACKAGES];

static int on_event(void *arg, void *data, size_t size) {
    (void)arg, (void)data, (void)size;
    seen++;
    return 0;
}

static void start(const char *path, int package) {
    hosts[package].on_ring = on_event;
    hosts[package].ring = hosts[0].ring;
    plain_load(&hosts[package], path);
    plain_attach(&hosts[package]);
}

static void drain(void) {
    check(ring_buffer__poll(hosts[0].ring, -1) >= 0, "polling");
}

int main(int argc, char **argv) {
    measure(argc, argv);
}
