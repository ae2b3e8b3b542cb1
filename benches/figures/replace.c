// Replaces a package under load from two threads, and measures for each replace: the time from the call to
// the first event that the new program handles in the kernel, and to the first one delivered; and the longest
// time between two deliveries. Between two replaces plain libbpf opens, loads and attaches the same object,
// under the same load.
//
// Usage: replace PACKAGE1 PACKAGE2 OBJECT COUNT, where COUNT is at most 1000. Prints "NAME p50 p99" in
// milliseconds.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "eunomia.h"
#include "plain.h"

// The time over which gaps are looked for, with and without a replace.
#define WINDOW_NS 100e6

static eunomia_vm *vm;
static atomic_int over;
static atomic_ullong wanted, delivered_ns, last_ns, longest_ns;

static void *produce(void *arg) {
    (void)arg;
    while (!over)
        syscall(SYS_getpgid, 1 << 30);
    return NULL;
}

static int take(void *arg, const eunomia_event *event) {
    unsigned long long now = now_ns(), before = last_ns;

    (void)arg;
    // Another window may have begun after `now` was read.
    if (now > before && now - before > longest_ns)
        longest_ns = now - before;
    last_ns = now;
    if (event->kind == EUNOMIA_EVENT_SAMPLE && *(const uint64_t *)event->data == wanted && !delivered_ns)
        delivered_ns = now;
    return 0;
}

static void *poll_events(void *arg) {
    (void)arg;
    while (!over) {
        int status = eunomia_poll(vm, 100, EUNOMIA_FORMAT_RAW, take, NULL);

        // Reading a variable keeps other calls out for a moment.
        if (status < 0 && status != EUNOMIA_ERR_BUSY)
            die("poll", eunomia_errmsg(vm));
    }
    return NULL;
}

static void sleep_ns(double ns) {
    struct timespec time = {.tv_nsec = ns};

    nanosleep(&time, NULL);
}

static void *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "r");
    void *data = malloc(1 << 20);

    check(file && data, path);
    *len = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

// Returns a quantile of the times in milliseconds: with share 0.99, the time that 99 % do not exceed.
static double part(struct times *times, double share) {
    qsort(times->of, times->count, sizeof(double), by_value);
    return times->of[(int)((times->count - 1) * share)] / 1e6;
}

static void print(const char *name, struct times *times) {
    printf("%s %f %f\n", name, part(times, 0.5), part(times, 0.99));
}

// Begins a window in which the longest gap between two deliveries is looked for.
static void begin_window(void) {
    last_ns = now_ns();
    longest_ns = 0;
}

static double first_handled(void) {
    uint64_t first = 0;
    size_t size = sizeof(first);

    // The variable may belong to the old version for a moment, and another call may be in progress.
    while (eunomia_var_get(vm, "first_ns", &first, &size) < 0 || !first)
        sleep_ns(100e3);
    return first;
}

static struct times handled, delivered, gap_default, gap_ordered, gap_idle, plain_handled;

static void replace(const void *data, size_t len, uint64_t version, uint32_t flags) {
    eunomia_replace_options options = {.size = sizeof(options), .flags = flags};
    double start = now_ns(), wait = start + WINDOW_NS;

    begin_window();
    delivered_ns = 0;
    wanted = version;
    if (eunomia_replace(vm, data, len, &options) < 0)
        die("replace", eunomia_replace_report(vm));
    while (!delivered_ns)
        sleep_ns(100e3);
    if (!flags) {
        add(&handled, first_handled() - start);
        add(&delivered, delivered_ns - start);
    }
    while (now_ns() < wait)
        sleep_ns(1e6);
    add(flags ? &gap_ordered : &gap_default, longest_ns);
}

static void plain(const char *object) {
    uint64_t value[8] = {0};
    struct host host = {0};
    double start = now_ns();
    uint32_t zero = 0;
    struct bpf_map *map;

    plain_load(&host, object);
    plain_attach(&host);
    map = bpf_object__find_map_by_name(host.object, "replaced.bss");
    check(map != NULL && bpf_map__value_size(map) <= sizeof(value), "replaced.bss");
    while (!value[0])
        check(!bpf_map__lookup_elem(map, &zero, sizeof(zero), value, bpf_map__value_size(map), 0),
              "replaced.bss");
    add(&plain_handled, value[0] - start);
    plain_end(&host);
}

int main(int argc, char **argv) {
    eunomia_options options = {.size = sizeof(options), .flags = EUNOMIA_REPLACEABLE};
    pthread_t threads[3];
    size_t len[2];
    void *packages[2];
    int count = argc == 5 ? atoi(argv[4]) : 0;

    if (count < 1 || count > 1000)
        die("usage", "replace PACKAGE1 PACKAGE2 OBJECT COUNT");
    packages[0] = read_file(argv[1], &len[0]);
    packages[1] = read_file(argv[2], &len[1]);
    check(eunomia_new(&vm, &options) >= 0, "new");
    if (eunomia_open(vm, packages[0], len[0], EUNOMIA_KIND_JSON) < 0 || eunomia_attach(vm) < 0)
        die("attach", eunomia_errmsg(vm));
    for (int i = 0; i < 3; i++)
        check(!pthread_create(&threads[i], NULL, i < 2 ? produce : poll_events, NULL), "thread");
    sleep_ns(WINDOW_NS);
    for (int i = 0; i < 2 * count; i++) {
        int next = (i + 1) % 2;

        begin_window();
        sleep_ns(WINDOW_NS);
        add(&gap_idle, longest_ns);
        replace(packages[next], len[next], next + 1, i < count ? 0 : EUNOMIA_REPLACE_ORDERED);
        if (i < count)
            plain(argv[3]);
    }
    over = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    eunomia_destroy(vm);
    print("handled_plain", &plain_handled);
    print("handled", &handled);
    print("delivered", &delivered);
    print("idle", &gap_idle);
    print("default", &gap_default);
    print("ordered", &gap_ordered);
    return 0;
}
