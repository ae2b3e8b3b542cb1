// Nanoseconds from ring buffer through a guest to the host's callback: plain libbpf, whose callback does in
// native C what the guest does, and libeunomia, alternating. usage: guest_event OBJECT MODULE...
//
// The guest polls for its whole run, so rounds begin and end in the host's callback.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <eunomia.h>

#include "guest.h"
#include "measure.h"

#define ROUNDS 500

struct seen {
    uint64_t events, bytes;
};

static struct seen plain;
static struct ring_buffer *plain_ring;
static int plain_produce;

// The measured guest.
static struct {
    struct seen seen;
    struct times plain_times, times;
    double start;
    int produce;
} ours;

static int plain_event(void *arg, void *data, size_t size) {
    struct seen *seen = arg;

    if (!wanted(data, size))
        return 0;
    seen->events++;
    seen->bytes += size;
    return 0;
}

static void produce(int prog) {
    LIBBPF_OPTS(bpf_test_run_opts, opts);

    check(!bpf_prog_test_run_opts(prog, &opts), "running the producer");
    if (opts.retval)
        die("producer", "the ring buffer is full");
}

static void plain_round(void) {
    double start;

    memset(&plain, 0, sizeof(plain));
    produce(plain_produce);
    start = now_ns();
    ring_buffer__poll(plain_ring, 1000);
    add(&ours.plain_times, (now_ns() - start) / EVENTS_PER_RUN);
    if (plain.events != EVENTS_PER_RUN || plain.events != ours.seen.events || plain.bytes != ours.seen.bytes)
        die("guest", "the two sides saw different events");
}

static void begin_our_round(void) {
    memset(&ours.seen, 0, sizeof(ours.seen));
    produce(ours.produce);
    ours.start = now_ns();
}

// The producer loaded last.
static int newest_producer(void) {
    struct bpf_prog_info info;
    uint32_t id = 0, len = sizeof(info);
    int newest = -1, prog;

    while (!bpf_prog_get_next_id(id, &id)) {
        prog = bpf_prog_get_fd_by_id(id);
        memset(&info, 0, sizeof(info));
        if (prog < 0 || bpf_prog_get_info_by_fd(prog, &info, &len) || strcmp(info.name, "produce")) {
            close(prog);
            continue;
        }
        close(newest);
        newest = prog;
    }
    check(newest >= 0, "the guest's producer");
    return newest;
}

static int our_event(void *arg, const eunomia_event *event) {
    (void)arg;
    if (event->kind == EUNOMIA_EVENT_OUTPUT) {
        ours.produce = newest_producer();
        begin_our_round();
        return 0;
    }
    ours.seen.bytes += event->len;
    if (++ours.seen.events < EVENTS_PER_RUN)
        return 0;
    add(&ours.times, (now_ns() - ours.start) / EVENTS_PER_RUN);
    plain_round();
    if (ours.times.count == ROUNDS)
        return 1;
    begin_our_round();
    return 0;
}

static void open_plain(const char *path) {
    struct bpf_object *object = bpf_object__open_file(path, NULL);

    check(object != NULL, path);
    check(!bpf_object__load(object), path);
    plain_produce = bpf_program__fd(bpf_object__find_program_by_name(object, "produce"));
    plain_ring =
        ring_buffer__new(bpf_object__find_map_fd_by_name(object, "events"), plain_event, &plain, NULL);
    check(plain_ring != NULL, "ring buffer");
}

static void measure(const char *path) {
    const char *argv[] = {path};
    eunomia_vm *vm;

    memset(&ours, 0, sizeof(ours));
    if (eunomia_new(&vm, NULL) < 0)
        die(path, "no vm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_WASM) < 0 ||
        eunomia_wasm_run(vm, 1, argv, NULL, EUNOMIA_FORMAT_RAW, our_event, NULL) < 0)
        die(path, eunomia_errmsg(vm));
    eunomia_destroy(vm);
    close(ours.produce);
    report("guest", &ours.plain_times, &ours.times);
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage", "guest_event OBJECT MODULE...");
    open_plain(argv[1]);
    for (int i = 2; i < argc; i++)
        measure(argv[i]);
    return 0;
}
