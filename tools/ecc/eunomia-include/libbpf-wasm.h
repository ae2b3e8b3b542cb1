// libbpf's functions for skeletons, maps and buffers, for guests that load objects themselves. They call the
// module `wasm_bpf` of the host.
//
// Such a guest has its own main and passes callbacks as indices of its function table. Build it with `ecc
// build-wasm --wasm-cflags "-mexec-model=command -Wl,--export-table"`.
//
// Functions return 0 or more, or a negative errno. The "descriptors" of maps are numbers within the guest.
#ifndef LIBBPF_WASM_H_
#define LIBBPF_WASM_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t bpf_object_skel;
typedef int (*bpf_buffer_sample_fn)(void *ctx, void *data, size_t size);

// ---- functions of the host

#define WASM_BPF_IMPORT(name) __attribute__((import_module("wasm_bpf"), import_name(#name)))

bpf_object_skel wasm_load_bpf_object(const void *obj_buf, int obj_buf_sz)
    WASM_BPF_IMPORT(wasm_load_bpf_object);
int wasm_close_bpf_object(bpf_object_skel obj) WASM_BPF_IMPORT(wasm_close_bpf_object);
int wasm_attach_bpf_program(bpf_object_skel obj, const char *name, const char *attach_target)
    WASM_BPF_IMPORT(wasm_attach_bpf_program);
int wasm_bpf_buffer_poll(bpf_object_skel obj, int fd, bpf_buffer_sample_fn sample_func, void *ctx, void *data,
                         int max_size, int timeout_ms) WASM_BPF_IMPORT(wasm_bpf_buffer_poll);
int wasm_bpf_map_fd_by_name(bpf_object_skel obj, const char *name) WASM_BPF_IMPORT(wasm_bpf_map_fd_by_name);
int wasm_bpf_map_operate(int fd, int cmd, const void *key, void *value, void *next_key, uint64_t flags)
    WASM_BPF_IMPORT(wasm_bpf_map_operate);

// ---- skeletons

struct bpf_object;
struct bpf_link;

struct bpf_map {
    bpf_object_skel obj;
    const char *name;
};

struct bpf_program {
    bpf_object_skel obj;
    const char *name;
    const char *target; // target to attach to instead of that of its section
    bool autoload;
};

struct bpf_map_skeleton {
    const char *name;
    struct bpf_map **map;
    void **mmaped; // variables of a section, until the object is loaded
};

struct bpf_prog_skeleton {
    const char *name;
    struct bpf_program **prog;
    struct bpf_link **link;
};

struct bpf_object_skeleton {
    size_t sz;
    const char *name;
    const void *data; // the object file; its .rodata is changed in place
    size_t data_sz;
    size_t rodata_offset; // offset of .rodata in the object; 0: none
    size_t bss_offset;
    bpf_object_skel obj; // 0 until the object is loaded
    int map_cnt;
    int map_skel_sz;
    struct bpf_map_skeleton *maps;
    int prog_cnt;
    int prog_skel_sz;
    struct bpf_prog_skeleton *progs;
};

struct bpf_object_open_opts;

// Allocates the maps and programs of the skeleton. Then the variables of .rodata can be set.
static inline int bpf_object__open_skeleton(struct bpf_object_skeleton *s,
                                            const struct bpf_object_open_opts *opts) {
    (void)opts;
    for (int i = 0; i < s->map_cnt; i++) {
        struct bpf_map_skeleton *entry = &s->maps[i];
        struct bpf_map *map = (struct bpf_map *)calloc(1, sizeof(*map));
        if (!map)
            return -12; // ENOMEM
        map->name = entry->name;
        *entry->map = map;
        if (entry->mmaped && s->rodata_offset && strstr(entry->name, ".rodata"))
            *entry->mmaped = (char *)s->data + s->rodata_offset;
    }
    for (int i = 0; i < s->prog_cnt; i++) {
        struct bpf_program *program = (struct bpf_program *)calloc(1, sizeof(*program));
        if (!program)
            return -12;
        program->name = s->progs[i].name;
        program->autoload = true;
        *s->progs[i].prog = program;
    }
    return 0;
}

static inline int bpf_object__load_skeleton(struct bpf_object_skeleton *s) {
    s->obj = wasm_load_bpf_object(s->data, (int)s->data_sz);
    if (!s->obj)
        return -22; // EINVAL; the host's log has the reason
    for (int i = 0; i < s->map_cnt; i++)
        (*s->maps[i].map)->obj = s->obj;
    for (int i = 0; i < s->prog_cnt; i++)
        (*s->progs[i].prog)->obj = s->obj;
    return 0;
}

static inline int bpf_object__attach_skeleton(struct bpf_object_skeleton *s) {
    for (int i = 0; i < s->prog_cnt; i++) {
        struct bpf_program *program = *s->progs[i].prog;
        int result = wasm_attach_bpf_program(s->obj, program->name, program->target);
        if (result < 0)
            return result;
    }
    return 0;
}

// Does nothing: links are detached when their object is closed.
static inline void bpf_object__detach_skeleton(struct bpf_object_skeleton *s) {
    (void)s;
}

static inline void bpf_object__destroy_skeleton(struct bpf_object_skeleton *s) {
    if (!s)
        return;
    if (s->obj)
        wasm_close_bpf_object(s->obj);
    for (int i = 0; i < s->map_cnt; i++)
        free(*s->maps[i].map);
    for (int i = 0; i < s->prog_cnt; i++)
        free(*s->progs[i].prog);
    free(s->maps);
    free(s->progs);
    free(s);
}

// ---- programs

// Stores the flag. It has no effect, because the host loads all programs of an object.
static inline int bpf_program__set_autoload(struct bpf_program *program, bool autoload) {
    program->autoload = autoload;
    return 0;
}

// Sets the cgroup (a path) or interface (a name) to attach to. The string must stay valid until the program
// is attached.
static inline int bpf_set_prog_attach_target(struct bpf_program *program, const char *target) {
    program->target = target;
    return 0;
}

// ---- maps

// Command numbers of bpf(2).
#define WASM_BPF_MAP_LOOKUP_ELEM 1
#define WASM_BPF_MAP_UPDATE_ELEM 2
#define WASM_BPF_MAP_DELETE_ELEM 3
#define WASM_BPF_MAP_GET_NEXT_KEY 4

static inline int bpf_map__fd(const struct bpf_map *map) {
    return wasm_bpf_map_fd_by_name(map->obj, map->name);
}

static inline int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags) {
    return wasm_bpf_map_operate(fd, WASM_BPF_MAP_UPDATE_ELEM, key, (void *)value, NULL, flags);
}

static inline int bpf_map_lookup_elem_flags(int fd, const void *key, void *value, uint64_t flags) {
    return wasm_bpf_map_operate(fd, WASM_BPF_MAP_LOOKUP_ELEM, key, value, NULL, flags);
}

static inline int bpf_map_lookup_elem(int fd, const void *key, void *value) {
    return bpf_map_lookup_elem_flags(fd, key, value, 0);
}

static inline int bpf_map_delete_elem_flags(int fd, const void *key, uint64_t flags) {
    return wasm_bpf_map_operate(fd, WASM_BPF_MAP_DELETE_ELEM, key, NULL, NULL, flags);
}

static inline int bpf_map_delete_elem(int fd, const void *key) {
    return bpf_map_delete_elem_flags(fd, key, 0);
}

static inline int bpf_map_get_next_key(int fd, const void *key, void *next_key) {
    return wasm_bpf_map_operate(fd, WASM_BPF_MAP_GET_NEXT_KEY, key, NULL, next_key, 0);
}

// ---- ring buffers and perf buffers

// Maximum size of an event. Longer events are cut off.
#define BPF_BUFFER_EVENT_SIZE 4096

struct bpf_buffer {
    struct bpf_map *events;
    bpf_buffer_sample_fn sample_cb;
    void *ctx;
    int fd;
};

static inline struct bpf_buffer *bpf_buffer__new(struct bpf_map *events) {
    struct bpf_buffer *buffer = (struct bpf_buffer *)calloc(1, sizeof(*buffer));
    if (buffer) {
        buffer->events = events;
        buffer->fd = bpf_map__fd(events);
    }
    return buffer;
}

// Opens a buffer for polling. Returns NULL if the loaded object has no such map.
static inline struct bpf_buffer *bpf_buffer__open(struct bpf_map *events, bpf_buffer_sample_fn sample_cb,
                                                  void *ctx) {
    struct bpf_buffer *buffer = bpf_buffer__new(events);
    if (buffer && buffer->fd < 0) {
        free(buffer);
        return NULL;
    }
    if (buffer) {
        buffer->sample_cb = sample_cb;
        buffer->ctx = ctx;
    }
    return buffer;
}

// Waits for events and calls the callback with each. A timeout of 0 or less means 100 ms. Returns the number
// of events, or a negative errno.
static inline int bpf_buffer__poll(struct bpf_buffer *buffer, int timeout_ms) {
    uint64_t event[BPF_BUFFER_EVENT_SIZE / sizeof(uint64_t)];
    return wasm_bpf_buffer_poll(buffer->events->obj, buffer->fd, buffer->sample_cb, buffer->ctx, event,
                                BPF_BUFFER_EVENT_SIZE, timeout_ms > 0 ? timeout_ms : 100);
}

static inline void bpf_buffer__free(struct bpf_buffer *buffer) {
    free(buffer);
}

#ifdef __cplusplus
}
#endif

#endif
