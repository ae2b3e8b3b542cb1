// eunomia_read and eunomia_map_dump, eunomia_poll_batch, and the queue.
#include "test.h"

#include <sys/mman.h>

static eunomia_vm *vm;
static eunomia_batch batch;
static uint64_t room[1024];

static int read_now(uint32_t format, size_t cap) {
    memset(&batch, 0, sizeof(batch));
    batch.size = sizeof(batch);
    memset(room, 0x5a, sizeof(room));
    return eunomia_read(vm, 0, format, room, cap, &batch);
}

// Checks that the raw records of a batch are those that the program sent.
static void check_records(uint32_t count, uint32_t first) {
    char *at = (char *)room;
    CHECK(batch.count == count);
    for (uint32_t i = 0; i < count; i++) {
        eunomia_record head;
        struct call_event event;
        memcpy(&head, at, sizeof(head));
        memcpy(&event, at + sizeof(head), sizeof(event));
        CHECK((uintptr_t)at % 8 == 0 && head.size == sizeof(head) + sizeof(event));
        CHECK(head.len == sizeof(event) && head.key_len == 0 && head.cpu == -1);
        CHECK(event.pid == (uint32_t)getpid() && event.seq == first + i && event.value == 7 + first + i);
        at += head.size;
    }
    CHECK(batch.len == (size_t)(at - (char *)room) && batch.stride * count == batch.len);
}

static void read_stores_what_fits(void) {
    size_t one = sizeof(eunomia_record) + sizeof(struct call_event);
    trigger(vm, 5);
    CHECK_STATUS(2, read_now(EUNOMIA_FORMAT_RAW, 2 * one + one / 2));
    check_records(2, 0);
    CHECK_STATUS(3, read_now(EUNOMIA_FORMAT_RAW, sizeof(room)));
    check_records(3, 2);
    CHECK_STATUS(0, read_now(EUNOMIA_FORMAT_RAW, sizeof(room)));
    CHECK(batch.count == 0 && batch.len == 0);
}

static void read_returns_the_required_size_and_keeps_the_record(void) {
    size_t one = sizeof(eunomia_record) + sizeof(struct call_event);
    trigger(vm, 2);
    memset(&batch, 0x5a, sizeof(batch));
    batch.size = sizeof(batch);
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, room, one - 1, &batch));
    CHECK(batch.need == one && batch.size == sizeof(batch));
    CHECK(batch.count == 0x5a5a5a5a && batch.source == 0x5a5a5a5a); // only `need` is written
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, read_now(EUNOMIA_FORMAT_RAW, 0));
    CHECK_STATUS(1, read_now(EUNOMIA_FORMAT_RAW, batch.need));
    check_records(1, 0);
    CHECK_STATUS(1, read_now(EUNOMIA_FORMAT_RAW, sizeof(room)));
    check_records(1, 1);
}

static void raw_records_need_an_aligned_buffer(void) {
    batch = (eunomia_batch)EUNOMIA_INIT(eunomia_batch);
    for (int shift = 1; shift < 8; shift++) {
        char *buf = (char *)room + shift;
        CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, buf, 64, &batch));
        CHECK(strstr(eunomia_errmsg(vm), "buf is at") && strstr(eunomia_errmsg(vm), "8-byte alignment"));
        CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_RAW, buf, 64, &batch));
        CHECK_STATUS(0, eunomia_read(vm, 0, EUNOMIA_FORMAT_JSON, buf, 64, &batch));
    }
}

static void a_kept_record_can_be_read_in_another_format(void) {
    trigger(vm, 1);
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, read_now(EUNOMIA_FORMAT_RAW, 8));
    CHECK_STATUS(1, read_now(EUNOMIA_FORMAT_JSON, sizeof(room)));
    CHECK_TEXT("\"seq\":0", (char *)room);
}

static int keep_event(void *arg, const eunomia_event *event) {
    CHECK(event->len == sizeof(struct call_event) && (uintptr_t)event->data % 8 == 0);
    memcpy(arg, event->data, event->len);
    return 1;
}

static void a_kept_record_comes_first_in_the_next_poll(void) {
    struct call_event event;
    trigger(vm, 2);
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, read_now(EUNOMIA_FORMAT_RAW, 8));
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_STATUS(1, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, keep_event, &event));
        CHECK(event.seq == i);
    }
    CHECK(drain(vm) == 0);
}

static void text_is_stored_as_lines(void) {
    trigger(vm, 2);
    CHECK_STATUS(2, read_now(EUNOMIA_FORMAT_JSON, sizeof(room)));
    CHECK(batch.stride == 0);
    CHECK(((char *)room)[0] == '{' && ((char *)room)[batch.len - 1] == '\n');
    ((char *)room)[batch.len] = 0;
    CHECK_TEXT("\"seq\":0", strtok((char *)room, "\n"));
    CHECK_TEXT("\"seq\":1", strtok(NULL, "\n"));
    CHECK(!strtok(NULL, "\n"));
}

static void every_record_is_counted_once(void) {
    uint64_t before = stats_of(vm).events, bytes = stats_of(vm).bytes;
    trigger(vm, 3);
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, read_now(EUNOMIA_FORMAT_RAW, 8));
    CHECK_STATUS(1, read_now(EUNOMIA_FORMAT_RAW, 80));
    CHECK_STATUS(2, read_now(EUNOMIA_FORMAT_JSON, sizeof(room)));
    CHECK(stats_of(vm).events == before + 3);
    CHECK(stats_of(vm).bytes == bytes + 3 * sizeof(struct call_event));
}

static void a_map_is_dumped_completely_or_not_at_all(void) {
    size_t entry = sizeof(eunomia_record) + 8 + 8;
    uint32_t key;
    for (key = 100; key < 103; key++)
        ok(vm, eunomia_map_set(vm, "counts", &key, sizeof(key), &(uint64_t){key * 2}, 8, 0));
    for (key = 0; eunomia_map_next(vm, "counts", NULL, &key, sizeof(key)) == 0 && (key < 100 || key > 102);)
        ok(vm, eunomia_map_del(vm, "counts", &key, sizeof(key)));
    int others = eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_RAW, ignore_event, NULL) - 3;
    size_t need = (size_t)(3 + others) * entry;
    batch.size = sizeof(batch);
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL,
                 eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_RAW, room, need - 1, &batch));
    CHECK(batch.need == need);
    CHECK_STATUS(3 + others, eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_RAW, room, need, &batch));
    CHECK(batch.len == need && batch.count == (uint32_t)(3 + others) && batch.stride == entry);
    for (size_t at = 0; at < need; at += entry) {
        eunomia_record head;
        uint64_t value;
        memcpy(&head, (char *)room + at, sizeof(head));
        memcpy(&value, (char *)room + at + sizeof(head), sizeof(value));
        memcpy(&key, (char *)room + at + sizeof(head) + 8, sizeof(key));
        CHECK(head.size == entry && head.len == 8 && head.key_len == 4);
        CHECK(key < 100 || key > 102 || value == key * 2);
    }
    CHECK(eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_JSON, room, sizeof(room), &batch) == 3 + others);
    ((char *)room)[batch.len] = 0;
    CHECK_TEXT("{\"key\":101,\"value\":202}\n", (char *)room);
}

// ---- eunomia_poll_batch ----

// Returns the consumer position (page 0) or producer position (page 1) of the ring buffer.
static uint64_t position(int page) {
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    ok(vm, eunomia_map_find(vm, "events", &map));
    long size = sysconf(_SC_PAGESIZE);
    volatile uint64_t *at = mmap(NULL, size, PROT_READ, MAP_SHARED, map.fd, page * size);
    CHECK(at != MAP_FAILED);
    uint64_t found = *at;
    munmap((void *)at, size);
    return found;
}

// The batches that a callback of eunomia_poll_batch received, and the result that it returns.
struct batches {
    uint32_t calls, records, next, largest;
    // The callback returns `result` in the call number `at`, counted from 1.
    uint32_t at;
    int result, stop;
};

static int on_batch(void *arg, const eunomia_records *records) {
    struct batches *batches = arg;

    CHECK(records->size == sizeof(*records) && records->kind == EUNOMIA_EVENT_SAMPLE);
    CHECK(strcmp(records->source, "events") == 0 && records->cpu == -1 && records->time_ns > 0);
    CHECK(records->key_len == 0 && records->lost == 0 && records->reserved == 0);
    CHECK(records->count > 0 && records->count <= 256);
    eunomia_source_info source = EUNOMIA_INIT(eunomia_source_info);
    ok(vm, eunomia_source_at(vm, records->source_index, &source));
    CHECK(records->type != NULL && records->type == source.type);
    for (size_t i = 0; i < records->count; i++) {
        const struct call_event *event = records->spans[i].data;
        CHECK(records->spans[i].len == sizeof(*event) && (uintptr_t)event % 8 == 0);
        CHECK(event->pid == (uint32_t)getpid() && event->seq == batches->next);
        batches->next = (batches->next + 1) % 500;
    }
    batches->calls++;
    batches->records += records->count;
    if (records->count > batches->largest)
        batches->largest = records->count;
    if (batches->stop)
        eunomia_stop(vm);
    return batches->calls == batches->at ? batches->result : 0;
}

static void a_batch_has_at_most_256_records_in_order(void) {
    struct batches batches = {0};
    uint64_t before = stats_of(vm).events, bytes = stats_of(vm).bytes;
    trigger(vm, 500);
    CHECK_STATUS(500, eunomia_poll_batch(vm, -1, on_batch, &batches));
    CHECK(batches.records == 500 && batches.calls == 2 && batches.largest == 256);
    CHECK_STATUS(0, eunomia_poll_batch(vm, 0, on_batch, &batches));
    CHECK(stats_of(vm).events == before + 500);
    CHECK(stats_of(vm).bytes == bytes + 500 * sizeof(struct call_event));
    CHECK(position(0) == position(1));
}

static void a_callback_ends_the_poll_after_its_batch(void) {
    for (int result = -1; result <= 1; result += 2) {
        struct batches batches = {.at = 1, .result = result};
        uint64_t before = stats_of(vm).events;
        trigger(vm, 500);
        CHECK_STATUS(result < 0 ? EUNOMIA_ERR_CALLBACK : 256, eunomia_poll_batch(vm, -1, on_batch, &batches));
        CHECK(batches.calls == 1 && stats_of(vm).events == before + 256);
        CHECK_STATUS(244, eunomia_poll_batch(vm, 0, on_batch, &batches));
        CHECK(batches.records == 500 && batches.next == 0);
    }
}

static void a_stop_in_a_batch_ends_the_next_call(void) {
    struct batches batches = {.stop = 1};
    trigger(vm, 300);
    CHECK_STATUS(300, eunomia_poll_batch(vm, -1, on_batch, &batches));
    batches.stop = 0;
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, eunomia_poll_batch(vm, 0, on_batch, &batches));
    CHECK_STATUS(0, eunomia_poll_batch(vm, 0, on_batch, &batches));
}

static void a_record_kept_by_read_is_the_first_batch(void) {
    struct batches batches = {0};
    trigger(vm, 3);
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, read_now(EUNOMIA_FORMAT_RAW, 8));
    CHECK_STATUS(3, eunomia_poll_batch(vm, 0, on_batch, &batches));
    CHECK(batches.calls == 1 && batches.records == 3); // it has stayed in the ring buffer
}

static void the_budget_limits_batches(void) {
    eunomia_vm *all = vm;
    struct batches batches = {0};
    vm = running_vm_with(300);
    trigger(vm, 500);
    CHECK_STATUS(300, eunomia_poll_batch(vm, -1, on_batch, &batches));
    CHECK_STATUS(200, eunomia_poll_batch(vm, -1, on_batch, &batches));
    CHECK(batches.records == 500 && batches.largest == 256);
    eunomia_destroy(vm);
    vm = all;
    // The events that the other vm's program saw are those of this one, too.
    drain(vm);
}

// ---- the queue ----

// Sends events and waits until the queue's thread has read them.
static void trigger_and_wait(uint32_t events) {
    trigger(vm, events);
    while (position(0) < position(1))
        usleep(1000);
}

static int check_order(void *arg, const eunomia_event *event) {
    uint32_t *next = arg;
    const struct call_event *call = event->data;
    CHECK(call->seq == *next % 500);
    ++*next;
    return 0;
}

static void a_queue_delivers_everything_in_order(void) {
    uint32_t sent, seen = 0;
    ok(vm, eunomia_queue_start(vm, 1 << 20));
    for (sent = 0; sent < 4000; sent += 500) // more than fits in the ring buffer
        trigger_and_wait(500);
    ok(vm, eunomia_queue_stop(vm));
    while (seen < sent)
        ok(vm, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, check_order, &seen));
    CHECK(seen == sent && drain(vm) == 0);
    CHECK(stats_of(vm).lost_queue == 0);
    trigger(vm, 2);
    CHECK(drain(vm) == 2);
}

static void a_full_queue_drops_and_counts(void) {
    uint64_t before = stats_of(vm).events;
    uint32_t sent = 0;
    ok(vm, eunomia_queue_start(vm, 1)); // raised to the minimum
    for (; stats_of(vm).lost_queue == 0; sent += 500)
        trigger_and_wait(500);
    ok(vm, eunomia_queue_stop(vm));
    drain(vm);
    CHECK(stats_of(vm).events - before + stats_of(vm).lost_queue == sent);
}

static void read_works_on_a_queue(void) {
    ok(vm, eunomia_queue_start(vm, 0));
    trigger(vm, 2);
    int count = 0, status;
    while (count < 2 && (status = eunomia_read(vm, -1, EUNOMIA_FORMAT_RAW, room, sizeof(room), &batch)) > 0)
        count += status;
    CHECK(count == 2);
    ok(vm, eunomia_queue_stop(vm));
    CHECK(drain(vm) == 0);
}

static void batches_work_on_a_queue(void) {
    struct batches batches = {0};
    ok(vm, eunomia_queue_start(vm, 0));
    trigger(vm, 3);
    while (batches.records < 3)
        CHECK(eunomia_poll_batch(vm, -1, on_batch, &batches) > 0);
    ok(vm, eunomia_queue_stop(vm));
    CHECK(batches.records == 3 && drain(vm) == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = running_vm();
    RUN(read_stores_what_fits);
    RUN(read_returns_the_required_size_and_keeps_the_record);
    RUN(raw_records_need_an_aligned_buffer);
    RUN(a_kept_record_can_be_read_in_another_format);
    RUN(a_kept_record_comes_first_in_the_next_poll);
    RUN(text_is_stored_as_lines);
    RUN(every_record_is_counted_once);
    RUN(a_map_is_dumped_completely_or_not_at_all);
    RUN(a_batch_has_at_most_256_records_in_order);
    RUN(a_callback_ends_the_poll_after_its_batch);
    RUN(a_stop_in_a_batch_ends_the_next_call);
    RUN(a_record_kept_by_read_is_the_first_batch);
    RUN(the_budget_limits_batches);
    RUN(a_queue_delivers_everything_in_order);
    RUN(a_full_queue_drops_and_counts);
    RUN(read_works_on_a_queue);
    RUN(batches_work_on_a_queue);
    eunomia_destroy(vm);
    return 0;
}
