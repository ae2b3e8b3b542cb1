// A guest with the interface wasm-bpf: loads an object, polls its buffer, uses its maps. Macros choose what
// it does.
#include "package.h"

typedef unsigned long long u64;

#ifndef MODULE
#define MODULE "wasm_bpf"
#endif
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT(MODULE, "wasm_load_bpf_object") u64 load(const void *elf, int len);
IMPORT(MODULE, "wasm_close_bpf_object") int close_object(u64 object);
IMPORT(MODULE, "wasm_attach_bpf_program") int attach(u64 object, const char *name, const char *target);
IMPORT(MODULE, "wasm_bpf_map_fd_by_name") int map_by_name(u64 object, const char *name);
IMPORT(MODULE, "wasm_bpf_map_operate")
int operate(int fd, int cmd, void *key, void *value, void *next_key, u64 flags);
IMPORT("wasi_snapshot_preview1", "proc_exit") _Noreturn void proc_exit(int code);
#ifdef GO
IMPORT("callback-wrapper", "wasm_bpf_buffer_poll")
int poll_exported(u64 object, int fd, int ctx, void *data, int max_size, int timeout_ms);
#else
typedef int (*callback)(int ctx, void *data, int size);
IMPORT(MODULE, "wasm_bpf_buffer_poll")
int poll(u64 object, int fd, callback sample, int ctx, void *data, int max_size, int timeout_ms);
#endif
IMPORT("env", "printf") int printf(const char *format, ...);
IMPORT("env", "puts") int puts(const char *text);

static u64 object;
static int events;

#ifndef ROOM
#define ROOM 4096
#endif
static char data[ROOM];

#ifdef GO
EXPORT("go-callback")
#else
static
#endif
int on_event(int ctx, void *event, int size) {
    printf("event %llu size %d ctx %d\n", *(u64 *)event, size, ctx);
#ifdef CLOSE_IN_CALLBACK
    printf("close %d\n", close_object(object));
#endif
#ifdef POLL_IN_CALLBACK
    printf("poll %d\n", poll(object, events, on_event, 0, data, sizeof(data), 0));
#endif
#ifdef REFUSE
    return -7;
#endif
    return 3;
}

static int next_events(int timeout_ms) {
#ifdef GO
    return poll_exported(object, events, 42, data, sizeof(data), timeout_ms);
#else
    return poll(object, events, on_event, 42, data, sizeof(data), timeout_ms);
#endif
}

#ifdef MAPS
static void use_maps(void) {
    unsigned key = 5, next = 0;
    u64 value = 77, found = 0;
    int counts = map_by_name(object, "counts");
    printf("same number %d\n", counts == map_by_name(object, "counts"));
    printf("look up %d\n", operate(counts, 1, &key, &found, 0, 0));
    printf("update %d\n", operate(counts, 2, &key, &value, 0, 0));
    printf("once more %d\n", operate(counts, 2, &key, &value, 0, 1));
    printf("look up %d %llu\n", operate(counts, 1, &key, &found, 0, 0), found);
    printf("first %d\n", operate(counts, 4, 0, 0, &next, 0));
    printf("next %u %d\n", next, operate(counts, 4, &next, 0, &next, 0));
    printf("delete %d\n", operate(counts, 3, &key, 0, 0, 0));
    printf("delete %d\n", operate(counts, 3, &key, 0, 0, 0));
    printf("command %d %d\n", operate(counts, 0, &key, &value, 0, 0), operate(counts, 9, &key, &value, 0, 0));

    // The values of the CPUs are 8 bytes apart; the bytes after the last one are unchanged.
    static u64 values[4097];
    int per_cpu = map_by_name(object, "per_cpu"), cpus = 0;
    for (int i = 0; i < 4097; i++)
        values[i] = ~0ull;
    key = 1;
    printf("per CPU %d\n", operate(per_cpu, 1, &key, values, 0, 0));
    while (cpus < 4096 && values[cpus] == 0)
        cpus++;
    printf("cpus %d\n", cpus);
    for (int i = 0; i < cpus; i++)
        values[i] = i + 1;
    printf("per CPU %d\n", operate(per_cpu, 2, &key, values, 0, 0));
    values[0] = 0;
    printf("per CPU %d %llu\n", operate(per_cpu, 1, &key, values, 0, 0), values[0]);

    // A guest must not write to a map whose values the kernel interprets as descriptors.
    int programs = map_by_name(object, "programs");
    unsigned fd = 3;
    key = 0;
    printf("programs %d\n", operate(programs, 2, &key, &fd, 0, 0));
    printf("no map %d %d %d\n", operate(0, 1, &key, &value, 0, 0), operate(1000, 1, &key, &value, 0, 0),
           operate(-1, 1, &key, &value, 0, 0));
    printf("no name %d %d\n", map_by_name(object, "nothing"), map_by_name(object + 1, "counts"));
}
#endif

#ifdef REOPEN
// The numbers of closed objects and maps are used again for new ones.
static void reopen(void) {
    unsigned key = 0, value = 0;
    for (int i = 0; i < 200; i++) {
        u64 again = load(package, sizeof(package) - 1);
        int counts = map_by_name(again, "counts"), old = map_by_name(object, "counts");
        if (again != 2 || counts != 3 || old != 4 || operate(counts, 1, &key, &value, 0, 0) != -2 ||
            close_object(again) || operate(counts, 1, &key, &value, 0, 0) != -9)
            proc_exit(100 + i);
    }
    puts("closed");
    // The maximum number of objects at a time, including the first one.
    for (int i = 1; i < 64; i++)
        if (!load(package, sizeof(package) - 1))
            proc_exit(5);
    proc_exit(load(package, sizeof(package) - 1) == 0 ? 6 : 7);
}
#endif

EXPORT("_start") void start(void) {
    object = load(package, sizeof(package) - 1);
    if (!object)
        proc_exit(1);
#ifdef REOPEN
    puts("loaded");
    reopen();
#endif
#ifdef MAPS
    use_maps();
    printf("close %d\n", close_object(object));
    printf("closed %d %d\n", close_object(object), map_by_name(object, "counts"));
    printf("closed map %d\n", operate(3, 1, data, data, 0, 0));
    proc_exit(0);
#endif
    printf("attach %d\n", attach(object, "nothing", 0));
    if (attach(object, "on_getpgid", 0))
        proc_exit(2);
    events = map_by_name(object, "events");
    printf("nothing %d\n", next_events(0));
    puts("ready");
    for (;;) {
        int count = next_events(-1);
        printf("poll %d\n", count);
        if (count < 0)
            proc_exit(3);
    }
}
