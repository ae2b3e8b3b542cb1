// A host on plain libbpf, for comparison.
#ifndef PLAIN_H
#define PLAIN_H

#include <bpf/libbpf.h>

#include "measure.h"

#define MAX_LINKS 16

struct host {
    // The event callback; without it events are dropped.
    ring_buffer_sample_fn on_ring;
    perf_buffer_sample_fn on_perf;
    // The manager of another host, to share it; without it a new one is created.
    struct ring_buffer *ring;
    struct bpf_object *object;
    struct bpf_link *links[MAX_LINKS];
    int count;
    struct perf_buffer *perf;
};

static int plain_ring_event(void *arg, void *data, size_t size) {
    (void)arg, (void)data, (void)size;
    return 0;
}

static void plain_perf_event(void *arg, int cpu, void *data, unsigned int size) {
    (void)arg, (void)cpu, (void)data, (void)size;
}

static void plain_open_buffer(struct host *host) {
    struct bpf_map *map = bpf_object__find_map_by_name(host->object, "events");

    if (!map)
        return;
    if (host->ring)
        check(!ring_buffer__add(host->ring, bpf_map__fd(map), host->on_ring, NULL), "ring buffer");
    else if (bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF)
        host->ring = ring_buffer__new(bpf_map__fd(map), host->on_ring, NULL, NULL);
    else
        host->perf = perf_buffer__new(bpf_map__fd(map), 64, host->on_perf, NULL, NULL, NULL);
    check(host->ring || host->perf, "buffer");
}

// Opens and loads the object, and opens the buffer of the map "events" if there is one. Unset members are
// zero.
static void plain_load(struct host *host, const char *path) {
    host->on_ring = host->on_ring ? host->on_ring : plain_ring_event;
    host->on_perf = host->on_perf ? host->on_perf : plain_perf_event;
    host->object = bpf_object__open_file(path, NULL);
    check(host->object != NULL, path);
    check(!bpf_object__load(host->object), path);
    plain_open_buffer(host);
}

static void plain_attach(struct host *host) {
    struct bpf_program *prog;

    bpf_object__for_each_program(prog, host->object) {
        if (bpf_program__type(prog) == BPF_PROG_TYPE_SYSCALL)
            continue;
        check(host->count < MAX_LINKS, "number of programs");
        host->links[host->count] = bpf_program__attach(prog);
        check(host->links[host->count++] != NULL, bpf_program__name(prog));
    }
}

// Waits for events, and returns after one batch.
static inline void plain_poll(struct host *host) {
    if (host->ring)
        ring_buffer__poll(host->ring, -1);
    else
        perf_buffer__poll(host->perf, -1);
}

static inline void plain_end(struct host *host) {
    while (host->count)
        bpf_link__destroy(host->links[--host->count]);
    ring_buffer__free(host->ring);
    perf_buffer__free(host->perf);
    bpf_object__close(host->object);
}

#endif
