// A guest with the interface ewasm. Macros choose what its process_event does.
#include "package.h"

int create_bpf(const char *json, int len);
int run_bpf(int id);
int wait_and_poll_bpf(int id);
int puts(const char *text);
int printf(const char *format, ...);

#define EXPORT(name) __attribute__((export_name(#name)))

EXPORT(bpf_main) int bpf_main(char *args, int len) {
    printf("args %s %d\n", args, len);
#ifdef PROGRAMS
    for (int i = 1; i < PROGRAMS; i++)
        if (create_bpf(package, sizeof(package)) != i - 1)
            return 9;
#endif
    int id = create_bpf(package, sizeof(package));
    if (id < 0)
        return 10;
    if (run_bpf(id) != 0)
        return 11;
    puts("ready");
#ifdef POLLED
    id = POLLED;
#endif
    wait_and_poll_bpf(id);
    return 12;
}

#ifdef FORMAT
EXPORT(eunomia_event_format) int event_format(void) {
    return FORMAT;
}
#endif

// The event of the BPF program, with its padding.
struct event {
    unsigned long long seq;
    unsigned tid;
    char comm[16];
    int padding;
};

#ifdef COUNT
EXPORT(process_event) int process_event(int ctx, char *event, int len) {
    static int count;
    (void)ctx;
    (void)event;
    printf("event %d has %d bytes\n", ++count, len);
    return 0;
}
#endif

#ifdef ODD_ONLY
EXPORT(process_event) int process_event(int ctx, char *event, int len) {
    static int count;
    (void)ctx;
    (void)event;
    (void)len;
    return count++ % 2 ? 0 : -1;
}
#endif

#ifdef REWRITE
EXPORT(process_event) int process_event(int ctx, char *event, int len) {
    static const char more[] = ",\"more\":true}";
    (void)ctx;
    for (unsigned i = 0; i < sizeof(more); i++)
        event[len - 1 + i] = more[i];
    return 0;
}
#endif

#ifdef RAW
EXPORT(process_event) int process_event(int ctx, struct event *event, int len) {
    (void)ctx;
    if (len != sizeof(*event))
        return -1;
    event->seq += 1000;
    return 0;
}
#endif

#ifdef BATCH
// Drops every record with an odd seq, and adds 1000 to the others.
EXPORT(process_events) int process_events(char *records, int len, int count) {
    static int calls;
    char *at = records;
    for (int i = 0; i < count; i++) {
        unsigned *head = (unsigned *)at;
        struct event *event = (struct event *)(at + 16);
        if (head[1] != sizeof(*event) || head[2] != 0)
            return -1;
        if (event->seq % 2)
            head[1] = -1;
        else
            event->seq += 1000;
        at += head[0];
    }
    if (at != records + len)
        return -1;
    if (!calls++)
        puts("batch");
    return 0;
}
#endif

#ifdef POLL_AGAIN
EXPORT(process_event) int process_event(int ctx, char *event, int len) {
    (void)ctx;
    (void)event;
    (void)len;
    printf("again %d\n", wait_and_poll_bpf(0));
    return 0;
}
#endif

#ifdef LOOP
EXPORT(process_event) int process_event(int ctx, char *event, int len) {
    (void)ctx;
    (void)event;
    (void)len;
    puts("loop");
    for (volatile int i = 0;; i++)
        ;
    return 0;
}
#endif

#ifdef TRAP
static __attribute__((noinline)) void deeper(volatile char *event) {
    event[0] = 0;
    __builtin_trap();
}

EXPORT(process_event) int process_event(int ctx, char *event, int len) {
    (void)ctx;
    (void)len;
    deeper(event);
    return 0;
}
#endif

#ifdef PRINT_ODD
// Prints every second event, each without a line feed.
EXPORT(process_event) int process_event(int ctx, char *event, int len) {
    static int count;
    (void)ctx;
    (void)event;
    (void)len;
    if (count++ % 2)
        printf("%d ", count);
    return 0;
}
#endif

#ifdef WIDE
EXPORT(process_event) long long process_event(long long ctx, long long event, long long len) {
    static int count;
    printf("wide %d %d\n", (int)ctx, ((char *)(unsigned)event)[len - 1] == '}');
    return count++ % 2 ? -(1ll << 40) : 1ll << 40;
}
#endif

#ifdef NO_RESULT
EXPORT(process_event) void process_event(int ctx, char *event, int len) {
    printf("no result %d %d\n", ctx, event[len - 1] == '}');
}
#endif
