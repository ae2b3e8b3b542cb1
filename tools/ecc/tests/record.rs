//! The types of records that are found from the calls of a program: the right type, or none with a list of candidates. Each
//! case sends records by another method.

mod support;

use serde_json::{Value, json};
use support::{LICENSE, Project, named};

/// The expected result for one map.
enum Expected {
    /// Records have the type with this name.
    Type(&'static str),
    /// Records are untyped, and a warning lists these names.
    Raw(&'static [&'static str]),
}
use Expected::{Raw, Type};

struct Case {
    name: &'static str,
    /// Declarations outside of functions.
    outside: &'static str,
    /// The body of a program. The context is `ctx`.
    body: &'static str,
    expected: &'static [(&'static str, Expected)],
}

/// Declarations for all cases. `first`, `second` and `third` have the same size.
const COMMON: &str = r#"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
typedef unsigned char u8; typedef unsigned int u32; typedef unsigned long long u64;
struct first { u64 a; u32 b, c; };
struct second { u32 d, e; u64 f; };
struct third { u64 g, h; };
struct header { u32 kind, len; };
struct large { struct header header; u64 i[4]; };
#define RING(name, ...) struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __VA_ARGS__ } \
    name SEC(".maps")
#define PERF(name) struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } \
    name SEC(".maps")
#define SCRATCH(name, T) struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); \
    __type(value, T); } name SEC(".maps")
#define NOINLINE static __attribute__((noinline))
#define INLINE static __attribute__((always_inline)) inline
"#;

const CASES: &[Case] = &[
    Case {
        name: "two types in one buffer by one macro on one line",
        outside: "RING(ring);
            #define SEND(x) bpf_ringbuf_output(&ring, &(x), sizeof(x), 0)
            #define BOTH(x, y) do { SEND(x); SEND(y); } while (0)",
        body: "struct first one = { 1 }; struct second two = { 2 }; BOTH(one, two);",
        expected: &[("ring", Raw(&["first", "second"]))],
    },
    Case {
        name: "two buffers by one macro on one line",
        outside: "RING(ring); RING(other);
            #define SEND(map, x) bpf_ringbuf_output(&map, &(x), sizeof(x), 0)
            #define BOTH(x, y) do { SEND(ring, x); SEND(other, y); } while (0)",
        body: "struct first one = { 1 }; struct second two = { 2 }; BOTH(one, two);",
        expected: &[("ring", Type("first")), ("other", Type("second"))],
    },
    Case {
        name: "two reservations in one function and buffer",
        outside: "RING(ring);",
        body: "struct first *one = bpf_ringbuf_reserve(&ring, sizeof(*one), 0);
            if (one) { one->a = 1; bpf_ringbuf_submit(one, 0); }
            struct second *two = bpf_ringbuf_reserve(&ring, sizeof(*two), 0);
            if (two) { two->d = 1; bpf_ringbuf_submit(two, 0); }",
        expected: &[("ring", Raw(&["first", "second"]))],
    },
    Case {
        name: "two reservations in one function and two buffers",
        outside: "RING(ring); RING(other);",
        body: "struct first *one = bpf_ringbuf_reserve(&ring, sizeof(*one), 0);
            struct second *two = bpf_ringbuf_reserve(&other, sizeof(*two), 0);
            if (two) { two->d = 1; bpf_ringbuf_submit(two, 0); }
            if (one) { one->a = 1; bpf_ringbuf_submit(one, 0); }",
        expected: &[("ring", Type("first")), ("other", Type("second"))],
    },
    Case {
        name: "a value of a map through an inlined function",
        outside: "PERF(events); SCRATCH(scratch, struct second);
            INLINE long send(void *ctx, void *data, u64 size) {
                return bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, data, size);
            }
            struct third unused;",
        body: "u32 key = 0; struct second *event = bpf_map_lookup_elem(&scratch, &key);
            if (!event) return 0;
            event->d = bpf_get_smp_processor_id(); event->f = 2;
            struct first copied = {}; bpf_probe_read_kernel(&copied, sizeof(copied), ctx);
            event->e = copied.b;
            send(ctx, event, sizeof(*event));",
        expected: &[("events", Type("second"))],
    },
    Case {
        name: "a value of a map of which no variable knows the type",
        outside: "PERF(events); SCRATCH(scratch, struct second);",
        body: "u32 key = 0; void *event = bpf_map_lookup_elem(&scratch, &key);
            if (event) bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, event, sizeof(struct first));",
        expected: &[("events", Type("second"))],
    },
    Case {
        name: "a member of a larger value",
        outside: "PERF(events); struct state { u64 count; struct second event; u32 more; }; SCRATCH(scratch, struct state);
            INLINE long send(void *ctx, void *data, u64 size) {
                return bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, data, size);
            }",
        body: "u32 key = 0; struct state *state = bpf_map_lookup_elem(&scratch, &key);
            if (!state) return 0;
            state->count++; state->event.d = 1;
            send(ctx, &state->event, sizeof(state->event));",
        expected: &[("events", Type("second"))],
    },
    Case {
        name: "bytes of a buffer, as many as a struct has",
        outside: "PERF(events); PERF(bytes); struct buffer { u8 data[512]; }; SCRATCH(scratch, struct buffer);",
        body: "u32 key = 0; struct first one = { 1 };
            bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &one, sizeof(one));
            struct buffer *buffer = bpf_map_lookup_elem(&scratch, &key);
            if (!buffer) return 0;
            void *data = buffer->data;
            bpf_perf_event_output(ctx, &bytes, BPF_F_CURRENT_CPU, data, 16);",
        expected: &[("events", Type("first")), ("bytes", Raw(&["first"]))],
    },
    Case {
        name: "bytes of unknown number",
        outside: "PERF(events); PERF(bytes); struct buffer { u8 data[512]; }; SCRATCH(scratch, struct buffer);",
        body: "u32 key = 0; struct first one = { 1 };
            bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &one, sizeof(one));
            struct buffer *buffer = bpf_map_lookup_elem(&scratch, &key);
            if (!buffer) return 0;
            void *data = buffer->data;
            bpf_perf_event_output(ctx, &bytes, BPF_F_CURRENT_CPU, data, (bpf_get_prandom_u32() & 127) + 20);",
        expected: &[("events", Type("first")), ("bytes", Raw(&["first"]))],
    },
    Case {
        name: "a char buffer on the stack",
        outside: "RING(ring);",
        body: "char text[16] = {}; bpf_get_current_comm(text, sizeof(text)); bpf_ringbuf_output(&ring, text, sizeof(text), 0);",
        expected: &[("ring", Raw(&["first", "second", "third"]))],
    },
    Case {
        name: "a struct in a char buffer",
        outside: "RING(ring);",
        body: "char text[16] = {}; struct second *event = (void *)text; event->d = bpf_get_smp_processor_id();
            bpf_ringbuf_output(&ring, event, sizeof(*event), 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "through a function that is not inlined",
        outside: "RING(ring);
            NOINLINE long send(void *data, u64 size) { return bpf_ringbuf_output(&ring, data, size, 0); }",
        body: "struct third event = { 1 }; bpf_get_current_comm(&event, sizeof(event)); send(&event, sizeof(event));",
        expected: &[("ring", Type("third"))],
    },
    Case {
        name: "two types through a function that is not inlined",
        outside: "RING(ring);
            NOINLINE long send(void *data, u64 size) { return bpf_ringbuf_output(&ring, data, size & 63, 0); }",
        body: "struct third event = { 1 }; bpf_get_current_comm(&event, sizeof(event)); send(&event, sizeof(event));
            struct first other = { 1 }; bpf_get_current_comm(&other, sizeof(other)); send(&other, sizeof(other));",
        expected: &[("ring", Raw(&["first", "third"]))],
    },
    Case {
        name: "the map through a function that is not inlined",
        outside: "RING(ring); RING(other);
            NOINLINE long send(void *map, void *data) { return bpf_ringbuf_output(map, data, 16, 0); }",
        body: "struct third event = { 1 }; bpf_get_current_comm(&event, sizeof(event)); send(&ring, &event);
            struct first next = { 1 }; bpf_get_current_comm(&next, sizeof(next)); send(&other, &next);",
        expected: &[("ring", Type("third")), ("other", Type("first"))],
    },
    Case {
        name: "filled by a function that is not inlined",
        outside: "RING(ring);
            NOINLINE int fill(struct second *event) { if (event) event->d = bpf_get_smp_processor_id(); return 0; }",
        body: "void *memory = bpf_ringbuf_reserve(&ring, sizeof(struct first), 0);
            if (!memory) return 0;
            fill(memory);
            bpf_ringbuf_submit(memory, 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "helpers that the source declares itself",
        outside: "RING(ring);
            static long (*const output)(void *map, void *data, u64 size, u64 flags) = (void *)130;
            static void *(*const reserve)(void *map, u64 size, u64 flags) = (void *)131;
            static void (*const submit)(void *data, u64 flags) = (void *)132;
            RING(other);",
        body: "struct second event = { 1 }; output(&ring, &event, sizeof(event), 0);
            struct first *next = reserve(&other, sizeof(*next), 0);
            if (next) { next->a = 1; submit(next, 0); }",
        expected: &[("ring", Type("second")), ("other", Type("first"))],
    },
    Case {
        name: "the value type of the buffer where nothing else tells",
        outside: "struct late; RING(ring, struct late *value;); struct late { u64 x, y; };
            static void *(*const reserve)(void *map, u64 size, u64 flags) = (void *)131;
            static void (*const submit)(void *data, u64 flags) = (void *)132;",
        body: "u64 *memory = reserve(&ring, 16, 0);
            if (memory) { memory[0] = 1; memory[1] = 2; submit(memory, 0); }",
        expected: &[("ring", Type("late"))],
    },
    Case {
        name: "the value type of the buffer, and another one is sent",
        outside: "RING(ring, __type(value, struct first););",
        body: "struct second event = { 1 }; bpf_ringbuf_output(&ring, &event, sizeof(event), 0);",
        expected: &[("ring", Raw(&["first", "second"]))],
    },
    Case {
        name: "memory that is filled as bytes",
        outside: "RING(ring);",
        body: "void *memory = bpf_ringbuf_reserve(&ring, sizeof(struct second), 0);
            if (!memory) return 0;
            struct second event = { bpf_get_smp_processor_id(), 2 };
            __builtin_memcpy(memory, &event, sizeof(event));
            bpf_ringbuf_submit(memory, 0);",
        expected: &[("ring", Raw(&["first", "second", "third"]))],
    },
    Case {
        name: "the beginning of a struct",
        outside: "RING(ring);",
        body: "struct large event = {}; event.header.kind = 1;
            bpf_ringbuf_output(&ring, &event, __builtin_offsetof(struct large, i[2]), 0);",
        expected: &[("ring", Type("large"))],
    },
    Case {
        name: "the header of a struct",
        outside: "RING(ring);",
        body: "struct large event = {}; event.header.kind = 1; bpf_get_current_comm(event.i, 16);
            bpf_ringbuf_output(&ring, &event.header, sizeof(event.header), 0);",
        expected: &[("ring", Type("header"))],
    },
    Case {
        name: "a struct by the pointer to its header",
        outside: "RING(ring);
            INLINE long send(struct header *header, u64 size) { return bpf_ringbuf_output(&ring, header, size, 0); }",
        body: "struct large event = {}; event.header.kind = 1; bpf_get_current_comm(event.i, 16);
            send(&event.header, sizeof(event));",
        expected: &[("ring", Type("large"))],
    },
    Case {
        name: "several structs by the pointer to their header",
        outside: "RING(ring); struct longer { struct header header; u64 j[9]; };
            INLINE long send(struct header *header, u64 size) { return bpf_ringbuf_output(&ring, header, size, 0); }",
        body: "struct large event = {}; event.header.kind = 1; bpf_get_current_comm(event.i, 16);
            send(&event.header, sizeof(event));
            struct longer other = {}; other.header.kind = 2; bpf_get_current_comm(other.j, 16);
            send(&other.header, sizeof(other));",
        expected: &[("ring", Raw(&["large", "longer"]))],
    },
    Case {
        name: "a part of variable length",
        outside: "RING(ring); struct line { u32 len; char text[60]; }; SCRATCH(scratch, struct line);
            INLINE long send(void *data, u64 size) { return bpf_ringbuf_output(&ring, data, size, 0); }",
        body: "u32 key = 0; struct line *line = bpf_map_lookup_elem(&scratch, &key);
            if (!line) return 0;
            line->len = bpf_get_prandom_u32() & 31;
            send(line, 4 + line->len);",
        expected: &[("ring", Type("line"))],
    },
    Case {
        name: "an array without a length at the end",
        outside: "RING(ring); struct open { u32 len; u32 rest[]; };",
        body: "struct open *open = bpf_ringbuf_reserve(&ring, sizeof(*open) + 64, 0);
            if (open) { open->len = 16; open->rest[3] = 1; bpf_ringbuf_submit(open, 0); }",
        expected: &[("ring", Type("open"))],
    },
    Case {
        name: "an element of an array",
        outside: "RING(ring); struct many { struct second all[8]; }; SCRATCH(scratch, struct many);",
        body: "u32 key = 0; struct many *many = bpf_map_lookup_elem(&scratch, &key);
            if (many) bpf_ringbuf_output(&ring, &many->all[bpf_get_prandom_u32() & 7], sizeof(struct second), 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "an element of an array through a function",
        outside: "RING(ring); struct many { struct second all[8]; }; SCRATCH(scratch, struct many);
            INLINE long send(void *data, u64 size) { return bpf_ringbuf_output(&ring, data, size, 0); }",
        body: "u32 key = 0; struct many *many = bpf_map_lookup_elem(&scratch, &key);
            if (many) send(&many->all[2], sizeof(struct second));",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "one of two structs in the branches of a function",
        outside: "RING(ring);
            INLINE long send(void *data) { return bpf_ringbuf_output(&ring, data, 16, 0); }",
        body: "if (bpf_get_smp_processor_id() & 1) {
                struct first one = { 1 }; bpf_get_current_comm(&one, 16); send(&one);
            } else {
                struct second two = { 2 }; bpf_get_current_comm(&two, 16); send(&two);
            }",
        expected: &[("ring", Raw(&["first", "second"]))],
    },
    Case {
        name: "one of two structs by a pointer",
        outside: "RING(ring); SCRATCH(one, struct first); SCRATCH(two, struct second);",
        body: "u32 key = 0; void *data;
            if (bpf_get_smp_processor_id() & 1) data = bpf_map_lookup_elem(&one, &key);
            else data = bpf_map_lookup_elem(&two, &key);
            if (data) bpf_ringbuf_output(&ring, data, 16, 0);",
        expected: &[("ring", Raw(&["first", "second"]))],
    },
    Case {
        name: "structs one after the other in one place of the stack",
        outside: "RING(ring); RING(other);
            INLINE long send(void *map, void *data) { return bpf_ringbuf_output(map, data, 16, 0); }",
        body: "{ struct first one = { 1 }; bpf_get_current_comm(&one, 16); send(&ring, &one); }
            { struct second two = { 2 }; bpf_get_current_comm(&two, 16); send(&other, &two); }",
        expected: &[("ring", Type("first")), ("other", Type("second"))],
    },
    Case {
        name: "a cast at the call",
        outside: "RING(ring); SCRATCH(scratch, struct third);",
        body: "u32 key = 0; struct third *memory = bpf_map_lookup_elem(&scratch, &key);
            if (memory) bpf_ringbuf_output(&ring, (struct second *)memory, sizeof(struct second), 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "a cast somewhere, and nothing at the call",
        outside: "RING(ring); SCRATCH(scratch, struct third);
            INLINE long send(void *data, u64 size) { return bpf_ringbuf_output(&ring, data, size, 0); }",
        body: "u32 key = 0; struct third *memory = bpf_map_lookup_elem(&scratch, &key);
            if (!memory) return 0;
            memory->g = 1;
            struct second *event = (void *)memory; event->d = bpf_get_smp_processor_id();
            send(event, sizeof(*event));",
        expected: &[("ring", Raw(&["second", "third"]))],
    },
    Case {
        name: "a member of a union",
        outside: "RING(ring); union any { struct first one; struct second two; u64 all[6]; }; SCRATCH(scratch, union any);",
        body: "u32 key = 0; union any *any = bpf_map_lookup_elem(&scratch, &key);
            if (!any) return 0;
            any->two.d = 1;
            bpf_ringbuf_output(&ring, &any->two, sizeof(any->two), 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "a union as a whole",
        outside: "RING(ring); union any { struct first one; struct second two; u64 all[6]; };",
        body: "union any any = {}; any.one.a = 1; bpf_ringbuf_output(&ring, &any, sizeof(any), 0);",
        expected: &[("ring", Type("any"))],
    },
    Case {
        name: "a struct with the name of a typedef alone",
        outside: "RING(ring); RING(other); typedef struct { u32 a; u64 b; } event_t; SCRATCH(scratch, event_t);
            INLINE long send(void *data, u64 size) { return bpf_ringbuf_output(&other, data, size, 0); }",
        body: "event_t *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
            if (event) { event->a = 1; bpf_ringbuf_submit(event, 0); }
            u32 key = 0; event = bpf_map_lookup_elem(&scratch, &key);
            if (event) send(event, sizeof(*event));",
        expected: &[("ring", Type("event_t")), ("other", Type("event_t"))],
    },
    Case {
        name: "numbers and enums",
        outside: "RING(ring); RING(other); RING(more); enum color { RED, GREEN }; typedef u64 stamp_t;",
        body: "u32 number = bpf_get_smp_processor_id(); bpf_ringbuf_output(&ring, &number, sizeof(number), 0);
            enum color color = GREEN; bpf_ringbuf_output(&other, &color, sizeof(color), 0);
            stamp_t *stamp = bpf_ringbuf_reserve(&more, sizeof(*stamp), 0);
            if (stamp) { *stamp = bpf_ktime_get_ns(); bpf_ringbuf_submit(stamp, 0); }",
        expected: &[("ring", Type("u32")), ("other", Type("color")), ("more", Type("stamp_t"))],
    },
    Case {
        name: "several numbers",
        outside: "RING(ring);",
        body: "u64 numbers[2] = { 1, 2 }; bpf_get_current_comm(numbers, 16);
            bpf_ringbuf_output(&ring, numbers, sizeof(numbers), 0);",
        expected: &[("ring", Type("u64[2]"))],
    },
    Case {
        name: "a global variable",
        outside: "RING(ring); static struct second event; struct third before;
            INLINE long send(void *data, u64 size) { return bpf_ringbuf_output(&ring, data, size, 0); }",
        body: "event.d = bpf_get_smp_processor_id(); before.g++; send(&event, sizeof(event));",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "a dynptr that is written as a whole",
        outside: "RING(ring);",
        body: "struct second event = { 1 }; struct bpf_dynptr dynptr; bpf_get_current_comm(&event, 16);
            bpf_ringbuf_reserve_dynptr(&ring, sizeof(event), 0, &dynptr);
            bpf_dynptr_write(&dynptr, 0, &event, sizeof(event), 0);
            bpf_ringbuf_submit_dynptr(&dynptr, 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "a dynptr that is written in parts",
        outside: "RING(ring);",
        body: "struct header header = { 1 }; struct bpf_dynptr dynptr; u64 rest = bpf_ktime_get_ns();
            bpf_ringbuf_reserve_dynptr(&ring, 16, 0, &dynptr);
            bpf_dynptr_write(&dynptr, 0, &header, sizeof(header), 0);
            bpf_dynptr_write(&dynptr, 8, &rest, sizeof(rest), 0);
            bpf_ringbuf_submit_dynptr(&dynptr, 0);",
        expected: &[("ring", Raw(&["first", "second", "third"]))],
    },
    Case {
        name: "memory of either kind, as tools for many kernels take it",
        outside: "RING(ring); SCRATCH(heap, struct large);
            const volatile int has_ring = 1;
            INLINE void *reserve(u64 size) {
                u32 key = 0;
                if (has_ring) return bpf_ringbuf_reserve(&ring, size, 0);
                return bpf_map_lookup_elem(&heap, &key);
            }
            INLINE long submit(void *data, u64 size) {
                if (has_ring) { bpf_ringbuf_submit(data, 0); return 0; }
                return bpf_ringbuf_output(&ring, data, size, 0);
            }",
        body: "struct large *event = reserve(sizeof(*event));
            if (!event) return 0;
            event->header.kind = 1; event->i[0] = bpf_ktime_get_ns();
            submit(event, sizeof(*event));",
        expected: &[("ring", Type("large"))],
    },
    Case {
        name: "a value of a map in a map",
        outside: "RING(ring); struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32);
                __type(value, struct second); } one SEC(\".maps\");
            struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 1); __type(key, u32);
                __array(values, struct inner); } outer SEC(\".maps\") = { .values = { &one } };",
        body: "u32 key = 0; void *map = bpf_map_lookup_elem(&outer, &key);
            if (!map) return 0;
            void *data = bpf_map_lookup_elem(map, &key);
            if (data) bpf_ringbuf_output(&ring, data, 16, 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "a compound literal",
        outside: "RING(ring); RING(other);
            INLINE long send(void *data, u64 size) { return bpf_ringbuf_output(&other, data, size, 0); }",
        body: "bpf_ringbuf_output(&ring, (&(struct first){ 1, 2 }), sizeof(struct first), 0);
            send(&(struct second){ bpf_get_smp_processor_id() }, sizeof(struct second));",
        expected: &[("ring", Type("first")), ("other", Raw(&["first", "second", "third"]))],
    },
    Case {
        name: "a choice by type",
        outside: "RING(ring); RING(other);
            #define SEND(x) bpf_ringbuf_output(_Generic((x), struct first *: (void *)&ring, struct second *: (void *)&other), \\
                x, sizeof(*(x)), 0)",
        body: "struct first one = { 1 }; struct second two = { 2 }; SEND(&one); SEND(&two);",
        expected: &[("ring", Type("first")), ("other", Type("second"))],
    },
    Case {
        name: "a function that the kernel calls, too",
        outside: "RING(ring);
            NOINLINE long send(u32 index, void *data) { bpf_ringbuf_output(&ring, data, 16, 0); return 0; }",
        body: "struct first one = { 1 }; bpf_get_current_comm(&one, 16); send(0, &one);
            struct second two = { 2 }; bpf_get_current_comm(&two, 16); bpf_loop(2, send, &two, 0);",
        expected: &[("ring", Raw(&["first", "second"]))],
    },
    Case {
        name: "what a callback gets",
        outside: "RING(ring);
            NOINLINE long send(u32 index, void *data) {
                struct second *event = data; event->d = index;
                bpf_ringbuf_output(&ring, data, 16, 0); return 0;
            }",
        body: "struct second two = { 2 }; bpf_get_current_comm(&two, 16); bpf_loop(2, send, &two, 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "two structs to two buffers in branches that are alike",
        outside: "RING(ring); RING(other);",
        body: "if (bpf_get_smp_processor_id() & 1) {
                struct first one = { 1 }; bpf_get_current_comm(&one, 16); bpf_ringbuf_output(&ring, &one, 16, 0);
            } else {
                struct second two = { 2 }; bpf_get_current_comm(&two, 16); bpf_ringbuf_output(&other, &two, 16, 0);
            }",
        expected: &[("ring", Type("first")), ("other", Type("second"))],
    },
    Case {
        name: "two reservations in branches that are alike",
        outside: "RING(ring);",
        body: "if (bpf_get_smp_processor_id() & 1) {
                struct first *one = bpf_ringbuf_reserve(&ring, 16, 0);
                if (!one) return 0;
                one->a = 1; bpf_ringbuf_submit(one, 0);
            } else {
                struct third *two = bpf_ringbuf_reserve(&ring, 16, 0);
                if (!two) return 0;
                two->g = 1; bpf_ringbuf_submit(two, 0);
            }",
        expected: &[("ring", Raw(&["first", "third"]))],
    },
    Case {
        name: "a value without a name in the place of a variable",
        outside: "RING(ring);
            INLINE long send(void *data) { return bpf_ringbuf_output(&ring, data, 16, 0); }",
        body: "struct first late;
            { send(&(struct second){ bpf_get_smp_processor_id() }); }
            bpf_get_current_comm(&late, 16); bpf_trace_printk((void *)&late, 16);",
        expected: &[("ring", Raw(&["first", "second"]))],
    },
    Case {
        name: "bytes that begin with a header",
        outside: "RING(ring); SCRATCH(lengths, u32);",
        body: "u32 key = 0, *len = bpf_map_lookup_elem(&lengths, &key);
            void *data = *(void **)ctx; struct header *header = data;
            if (len && header->kind == 1) bpf_ringbuf_output(&ring, data, *len & 255, 0);",
        expected: &[("ring", Raw(&["header"]))],
    },
    Case {
        name: "through two functions that are not inlined",
        outside: "RING(ring);
            NOINLINE long last(void *data, u64 size) { return bpf_ringbuf_output(&ring, data, size, 0); }
            NOINLINE long send(void *before, void *data) { return before ? last(data, 16) : 0; }",
        body: "struct third event = { 1 }; bpf_get_current_comm(&event, 16); send(ctx, &event);",
        expected: &[("ring", Type("third"))],
    },
    Case {
        name: "what a function that is not inlined returns",
        outside: "RING(ring); SCRATCH(scratch, struct second);
            NOINLINE void *get(u32 key) { return bpf_map_lookup_elem(&scratch, &key); }",
        body: "void *event = get(0); if (event) bpf_ringbuf_output(&ring, event, 16, 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "what is kept with a task",
        outside: "RING(ring); struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC);
            __type(key, int); __type(value, struct second); } kept SEC(\".maps\");",
        body: "void *event = bpf_task_storage_get(&kept, bpf_get_current_task_btf(), 0, 1);
            if (event) bpf_ringbuf_output(&ring, event, 16, 0);",
        expected: &[("ring", Type("second"))],
    },
    Case {
        name: "a struct that is marked as an event, and bytes for another buffer",
        outside: "RING(ring); RING(other);
            /// @export
            struct marked { u64 a, b; };",
        body: "struct marked marked = { 1 }; char text[16] = {}; bpf_get_current_comm(text, 16);
            bpf_ringbuf_output(&ring, &marked, 16, 0);
            bpf_ringbuf_output(&other, text, 16, 0);",
        expected: &[("ring", Type("marked")), ("other", Raw(&["marked"]))],
    },
    Case {
        name: "the value type of the buffer, and casts to others",
        outside: "RING(ring, __type(value, struct first););
            NOINLINE long send(void *data) { return bpf_ringbuf_output(&ring, data, 16, 0); }",
        body: "struct second two = { 2 }; bpf_get_current_comm(&two, 16); send(&two);
            struct third three = { 2 }; bpf_get_current_comm(&three, 16); send(&three);",
        expected: &[("ring", Raw(&["first", "second", "third"]))],
    },
    Case {
        name: "more variables than registers",
        outside: "RING(ring); RING(other);",
        body: "struct first *one = bpf_ringbuf_reserve(&ring, 16, 0); struct second *two; struct first *more[4];
            u64 a = bpf_ktime_get_ns(), b = bpf_get_current_pid_tgid(), c = bpf_get_current_uid_gid();
            if (!one) return 0;
            two = bpf_ringbuf_reserve(&other, 16, 0);
            if (two) { two->d = a; two->f = b + c; }
            one->a = bpf_ktime_get_ns() + a + b + c + bpf_get_smp_processor_id();
            if (two) bpf_ringbuf_submit(two, 0);
            bpf_ringbuf_submit(one, 0);",
        expected: &[("ring", Type("first")), ("other", Type("second"))],
    },
    Case {
        name: "an event with a packet behind it",
        outside: "PERF(events);",
        body: "struct second event = { 1 };
            bpf_perf_event_output(ctx, &events, (u64)64 << 32 | BPF_F_CURRENT_CPU, &event, sizeof(event));",
        expected: &[("events", Type("second"))],
    },
    Case {
        name: "one of two buffers by a pointer",
        outside: "RING(ring); RING(other);",
        body: "struct second event = { 1 }; void *map = bpf_get_smp_processor_id() & 1 ? (void *)&ring : (void *)&other;
            bpf_ringbuf_output(map, &event, sizeof(event), 0);",
        expected: &[("ring", Type("second")), ("other", Type("second"))],
    },
    Case {
        name: "a buffer out of a map of buffers",
        outside: "struct inner { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(\".maps\"), other SEC(\".maps\");
            struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, u32);
                __array(values, struct inner); } outer SEC(\".maps\") = { .values = { &ring, &other } };",
        body: "struct second event = { 1 }; u32 key = bpf_get_smp_processor_id() & 1;
            void *map = bpf_map_lookup_elem(&outer, &key);
            if (map) bpf_ringbuf_output(map, &event, sizeof(event), 0);",
        expected: &[("ring", Type("second")), ("other", Type("second"))],
    },
    Case {
        name: "a union without any name",
        outside: "RING(ring); u32 len;",
        body: "union { struct second event; char room[32]; } event = { .event = { 1 } };
            bpf_ringbuf_output(&ring, &event, len & 31, 0);",
        expected: &[("ring", Raw(&["second"]))],
    },
];

#[test]
fn a_record_has_the_type_of_the_sent_data_or_none() {
    check(&[], true);
}

#[test]
fn no_record_has_a_wrong_type_however_clang_optimizes() {
    check(&["--additional-cflags=-O1"], false);
    check(&["--additional-cflags=-Os"], false);
}

/// Compiles all cases. Unless `is_all_known`, the right type may be one of several candidates.
fn check(flags: &[&str], is_all_known: bool) {
    let mut wrong = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        let source = format!(
            "{COMMON}\n{}\nSEC(\"tracepoint/syscalls/sys_enter_getpgid\") int program(void *ctx) {{ {}\nreturn 0; }}\n{LICENSE}",
            case.outside, case.body
        );
        let project = Project::new(&format!("record-{is_all_known}-{index}")).file("r.bpf.c", &source);
        let mut arguments = vec!["r.bpf.c"];
        arguments.extend_from_slice(flags);
        let messages = project.compile(&arguments);
        let meta = project.meta("r");
        for (map, expected) in case.expected {
            let found = found(&meta, map);
            let warning =
                messages.lines().find(|line| line.contains(&format!("map \"{map}\":"))).unwrap_or("");
            let names = |name: &&str| {
                warning.contains(&format!(" {name} (")) || warning.contains(&format!(" {name};"))
            };
            let is_right = match expected {
                Type(name) if found == json!(name) => warning.is_empty(),
                Type(name) => !is_all_known && found.is_null() && names(name),
                Raw(candidates) => found.is_null() && candidates.iter().all(names),
            };
            if !is_right {
                wrong.push(format!("{flags:?}, {}: {map}: {found}, {warning:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The name of the type of a map's records in the package.
fn found(meta: &Value, map: &str) -> Value {
    let types = meta["export_types"].as_array().unwrap();
    let config = &named(&meta["bpf_skel"]["maps"], map)["export_config"];
    let id = match (&config["btf_type_id"], &types[..]) {
        (Value::Null, [only]) => &only["type_id"],
        (id, _) => id,
    };
    types.iter().find(|ty| ty["type_id"] == *id).map_or(Value::Null, |ty| ty["name"].clone())
}

#[test]
fn functions_of_one_source_send_records_of_another() {
    let (types, first) = (
        "#include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        struct first { long a, b; };
        struct second { long c, d; };",
        r#"#include "types.h"
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
        __attribute__((noinline)) int send(void *data) { return bpf_ringbuf_output(&ring, data, 16, 0); }
        SEC("xdp") int one(void *ctx) {
            struct first event = { 1 }; bpf_get_current_comm(&event, 16); send(&event); return 2;
        }
        char LICENSE[] SEC("license") = "GPL";"#,
    );
    let second = r#"#include "types.h"
        int send(void *data);
        SEC("xdp") int two(void *ctx) {
            struct second event = { 1 }; bpf_get_current_comm(&event, 16); send(&event); return 2;
        }"#;
    let project = Project::new("record-sources").file("types.h", types);
    let project = project.file("a.bpf.c", first).file("b.bpf.c", second);
    assert_eq!(project.compile(&["a.bpf.c"]), "");
    assert_eq!(found(&project.meta("a"), "ring"), json!("first"));
    let messages = project.compile(&["a.bpf.c", "b.bpf.c"]);
    assert!(messages.contains("first (types.h:3)") && messages.contains("second (types.h:4)"), "{messages}");
    assert_eq!(found(&project.meta("a"), "ring"), Value::Null);
}
