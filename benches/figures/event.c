// Nanoseconds from ring buffer to callback: plain libbpf with snprintf, and libeunomia, alternating.
// usage: event OBJECT PACKAGE
//
// Records are produced before the clock starts. Both sides must print the same text. With LENGTHS, the
// lengths of the records change without a pattern, and they are not converted to text.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <eunomia.h>

#include "measure.h"
#include "print.h"

#define ROUNDS 500
#ifndef LENGTHS
#define LENGTHS 0
#endif

// The events that the callbacks of one side received in a round. The text is stored only in the first round,
// for the comparison.
struct seen {
    uint64_t events, bytes;
    char *text;
    char line[64 + 32 * FIELDS];
    char clock[9];
};

static struct seen plain, ours;

// Descriptors of the two producers.
static int plain_produce, our_produce;

static void keep(struct seen *seen, const char *line, size_t len) {
    seen->events++;
    if (seen->text) {
        memcpy(seen->text + seen->bytes, line, len);
        seen->text[seen->bytes + len] = '\n';
    }
    seen->bytes += len + 1;
}

static int plain_raw(void *arg, void *data, size_t size) {
    struct seen *seen = arg;

    (void)data;
    seen->events++;
    seen->bytes += size;
    return 0;
}

// Stores each record as eunomia_read does, in a buffer that is used again and again.
static int plain_copy(void *arg, void *data, size_t size) {
    static _Alignas(8) char buffer[64 << 10];
    static size_t used;
    eunomia_record *record;
    size_t needed = sizeof(*record) + (size + 7) / 8 * 8;

    if (used + needed > sizeof(buffer))
        used = 0;
    record = (eunomia_record *)(buffer + used);
    *record = (eunomia_record){.size = needed, .len = size, .cpu = -1};
    memcpy(record + 1, data, size);
    used += needed;
    return plain_raw(arg, data, size);
}

static int plain_json(void *arg, void *data, size_t size) {
    const struct signal *event = data;
    struct seen *seen = arg;

    (void)size;
    keep(seen, seen->line, snprintf(seen->line, sizeof(seen->line), JSON_FORMAT, VALUES));
    return 0;
}

static int plain_text(void *arg, void *data, size_t size) {
    const struct signal *event = data;
    struct seen *seen = arg;

    (void)size;
    keep(seen, seen->line, snprintf(seen->line, sizeof(seen->line), "%s" TEXT_FORMAT, seen->clock, VALUES));
    return 0;
}

static int our_raw(void *arg, const eunomia_event *event) {
    struct seen *seen = arg;

    seen->events++;
    seen->bytes += event->len;
    return 0;
}

static int our_batch(void *arg, const eunomia_records *records) {
    struct seen *seen = arg;

    seen->events += records->count;
    for (size_t i = 0; i < records->count; i++)
        seen->bytes += records->spans[i].len;
    return 0;
}

static int our_text(void *arg, const eunomia_event *event) {
    if (event->kind == EUNOMIA_EVENT_SAMPLE)
        keep(arg, event->data, event->len);
    return 0;
}

static void poll_raw(eunomia_vm *vm) {
    eunomia_poll(vm, 1000, EUNOMIA_FORMAT_RAW, our_raw, &ours);
}

static void poll_batch(eunomia_vm *vm) {
    eunomia_poll_batch(vm, 1000, our_batch, &ours);
}

// Reads into the same buffer again and again, and visits each record there. If all records have the same
// size, the loop finds the next record without a read of the header.
static void read_raw(eunomia_vm *vm) {
    static _Alignas(8) char buffer[64 << 10];
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);

    while (ours.events < EVENTS_PER_RUN &&
           eunomia_read(vm, 1000, EUNOMIA_FORMAT_RAW, buffer, sizeof(buffer), &batch) > 0) {
        check(LENGTHS || batch.stride, "records of different sizes");
        ours.events += batch.count;
        for (const char *at = buffer; at < buffer + batch.len;) {
            const eunomia_record *record = (const eunomia_record *)at;

            ours.bytes += record->len;
            at += LENGTHS ? record->size : batch.stride;
        }
    }
}

static void poll_json(eunomia_vm *vm) {
    eunomia_poll(vm, 1000, EUNOMIA_FORMAT_JSON, our_text, &ours);
}

static void poll_text(eunomia_vm *vm) {
    eunomia_poll(vm, 1000, EUNOMIA_FORMAT_TEXT, our_text, &ours);
}

static struct format {
    const char *name;
    ring_buffer_sample_fn plain;
    void (*ours)(eunomia_vm *vm);
    struct ring_buffer *ring;
    struct times plain_times, our_times;
} formats[] = {
    {.name = "raw", .plain = plain_raw, .ours = poll_raw},
    {.name = "batch", .plain = plain_raw, .ours = poll_batch},
    {.name = "read", .plain = plain_raw, .ours = read_raw},
    {.name = "copy", .plain = plain_copy, .ours = read_raw},
    {.name = "json", .plain = plain_json, .ours = poll_json},
    {.name = "text", .plain = plain_text, .ours = poll_text},
};

// The number of formats that are measured. With LENGTHS, JSON and text are left out, which are the last two.
enum { FORMATS = sizeof(formats) / sizeof(formats[0]) - (LENGTHS ? 2 : 0) };

static void produce(int prog) {
    LIBBPF_OPTS(bpf_test_run_opts, opts);

    check(!bpf_prog_test_run_opts(prog, &opts), "running the producer");
    if (opts.retval)
        die("producer", "the ring buffer is full");
}

static void begin(struct seen *seen) {
    time_t now = time(NULL);
    struct tm tm;

    seen->events = seen->bytes = 0;
    strftime(seen->clock, sizeof(seen->clock), "%H:%M:%S", localtime_r(&now, &tm));
}

static double plain_round(const struct format *format) {
    double start;

    produce(plain_produce);
    begin(&plain);
    start = now_ns();
    ring_buffer__poll(format->ring, 1000);
    return (now_ns() - start) / EVENTS_PER_RUN;
}

static double our_round(const struct format *format, eunomia_vm *vm) {
    double start;

    produce(our_produce);
    begin(&ours);
    start = now_ns();
    format->ours(vm);
    return (now_ns() - start) / EVENTS_PER_RUN;
}

static void check_counts(const struct format *format) {
    if (plain.events != EVENTS_PER_RUN || ours.events != EVENTS_PER_RUN)
        die(format->name, "not all events arrived");
    if (plain.bytes != ours.bytes)
        die(format->name, "the two sides made texts of different lengths");
}

// One round whose output is compared byte by byte. If the second of the time column changed in between, it
// is repeated.
static void check_texts(const struct format *format, eunomia_vm *vm) {
    const size_t room = sizeof(plain.line) * EVENTS_PER_RUN;
    char *texts = calloc(2, room);
    int tries = 3, differ;

    check(texts != NULL, "memory");
    plain.text = texts;
    ours.text = texts + room;
    do {
        plain_round(format);
        our_round(format, vm);
        check_counts(format);
        differ = (format->ours == poll_json || format->ours == poll_text) &&
                 memcmp(plain.text, ours.text, plain.bytes);
    } while (differ && --tries);
    if (differ)
        die(format->name, "the two sides made different texts");
    plain.text = ours.text = NULL;
    free(texts);
}

// The sides alternate in going first.
static void measure(struct format *format, eunomia_vm *vm, int round) {
    if (round % 2)
        add(&format->our_times, our_round(format, vm));
    add(&format->plain_times, plain_round(format));
    if (round % 2 == 0)
        add(&format->our_times, our_round(format, vm));
    check_counts(format);
}

static void open_plain(const char *path) {
    struct bpf_object *object = bpf_object__open_file(path, NULL);
    int map;

    check(object != NULL, path);
    check(!bpf_object__load(object), path);
    plain_produce = bpf_program__fd(bpf_object__find_program_by_name(object, "produce"));
    map = bpf_object__find_map_fd_by_name(object, "events");
    for (struct format *format = formats; format < formats + FORMATS; format++) {
        format->ring = ring_buffer__new(map, format->plain, &plain, NULL);
        check(format->ring != NULL, "ring buffer");
    }
}

static eunomia_vm *open_ours(const char *path) {
    eunomia_prog_info info = EUNOMIA_INIT(eunomia_prog_info);
    eunomia_vm *vm;

    if (eunomia_new(&vm, NULL) < 0)
        die(path, "no vm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_JSON) < 0 || eunomia_load(vm) < 0 ||
        eunomia_prog_find(vm, "produce", &info) < 0)
        die(path, eunomia_errmsg(vm));
    our_produce = bpf_prog_get_fd_by_id(info.id);
    check(our_produce >= 0, path);
    return vm;
}

int main(int argc, char **argv) {
    eunomia_vm *vm;

    if (argc != 3)
        die("usage", "event OBJECT PACKAGE");
    open_plain(argv[1]);
    vm = open_ours(argv[2]);
    for (int i = 0; i < FORMATS; i++)
        check_texts(&formats[i], vm);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < FORMATS; i++)
            measure(&formats[i], vm, round);
    for (int i = 0; i < FORMATS; i++)
        report(formats[i].name, &formats[i].plain_times, &formats[i].our_times);
    return 0;
}
