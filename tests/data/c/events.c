// Events, maps and types of a running package.
#include "test.h"

#include <sched.h>

static eunomia_vm *vm;

// ---- formats ----

struct seen {
    int samples, heads;
    const char *part;
};

static int look_at_text(void *arg, const eunomia_event *event) {
    struct seen *seen = arg;
    const char *text = event->data;
    CHECK(event->size == sizeof(*event) && event->reserved == 0);
    CHECK(strcmp(event->source, "events") == 0 && event->key_len == 0 && event->lost == 0);
    CHECK(text[event->len] == 0 && strlen(text) == event->len);
    if (event->kind == EUNOMIA_EVENT_HEADER) {
        CHECK(event->format == EUNOMIA_FORMAT_TEXT && seen->samples == 0);
        CHECK_TEXT("PID", text);
        seen->heads++;
        return 0;
    }
    CHECK(event->kind == EUNOMIA_EVENT_SAMPLE);
    CHECK_TEXT(seen->part, text);
    seen->samples++;
    return 0;
}

static void json_comes_in_order_of_declaration(void) {
    char line[128];
    snprintf(line, sizeof(line), "{\"pid\":%d,\"seq\":0,\"value\":7,\"comm\":\"tester\"}", getpid());
    struct seen seen = {.part = line};
    trigger(vm, 1);
    CHECK_STATUS(1, eunomia_poll(vm, -1, EUNOMIA_FORMAT_JSON, look_at_text, &seen));
    CHECK(seen.samples == 1 && seen.heads == 0);
}

static void text_has_a_header_that_is_not_counted(void) {
    struct seen seen = {.part = "tester"};
    trigger(vm, 2);
    CHECK_STATUS(2, eunomia_poll(vm, -1, EUNOMIA_FORMAT_TEXT, look_at_text, &seen));
    CHECK(seen.samples == 2 && seen.heads == 1);
}

static int look_at_raw(void *arg, const eunomia_event *event) {
    const struct call_event *call = event->data;
    uint32_t *seq = arg;
    CHECK(event->kind == EUNOMIA_EVENT_SAMPLE && event->format == EUNOMIA_FORMAT_RAW && event->cpu == -1);
    CHECK(event->len == sizeof(*call) && (uintptr_t)call % 8 == 0);
    CHECK(call->pid == (uint32_t)getpid() && call->seq == *seq && strcmp(call->comm, "tester") == 0);
    CHECK(event->type && strcmp(eunomia_type_name(event->type), "struct event") == 0);
    ++*seq;
    return 0;
}

static void raw_records_are_as_the_kernel_wrote_them(void) {
    uint32_t seq = 0;
    trigger(vm, 3);
    CHECK_STATUS(3, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, look_at_raw, &seq));
    CHECK(seq == 3);
}

// ---- types ----

static eunomia_field field_of(const eunomia_type *type, uint32_t index) {
    eunomia_field field = EUNOMIA_INIT(eunomia_field);
    CHECK_STATUS(EUNOMIA_OK, eunomia_type_field(type, index, &field));
    return field;
}

static void check_member(const eunomia_type *type, uint32_t index, const char *name, uint32_t kind,
                         size_t offset, size_t size) {
    eunomia_field field = field_of(type, index);
    CHECK(strcmp(field.name, name) == 0);
    CHECK(eunomia_type_kind_of(field.type) == kind && eunomia_type_size(field.type) == size);
    CHECK(field.bit_offset == offset * 8 && field.bit_size == size * 8 && field.value == 0);
}

static void a_type_lists_its_members(void) {
    eunomia_source_info source = EUNOMIA_INIT(eunomia_source_info);
    eunomia_field field = EUNOMIA_INIT(eunomia_field);
    ok(vm, eunomia_source_at(vm, 0, &source));
    CHECK(strcmp(source.name, "events") == 0 && source.kind == EUNOMIA_SOURCE_RING);
    CHECK(source.record_size == sizeof(struct call_event) && source.interval_ms == 0);
    CHECK(!source.key_type && source.events > 0 && source.lost == 0);
    CHECK(eunomia_type_kind_of(source.type) == EUNOMIA_TYPE_STRUCT && eunomia_type_count(source.type) == 4);
    CHECK(eunomia_type_size(source.type) == sizeof(struct call_event));
    check_member(source.type, 0, "pid", EUNOMIA_TYPE_UINT, 0, 4);
    check_member(source.type, 1, "seq", EUNOMIA_TYPE_UINT, 4, 4);
    check_member(source.type, 2, "value", EUNOMIA_TYPE_UINT, 8, 8);
    check_member(source.type, 3, "comm", EUNOMIA_TYPE_ARRAY, 16, 16);
    const eunomia_type *comm = field_of(source.type, 3).type;
    CHECK(eunomia_type_count(comm) == 16);
    check_member(comm, 15, "", EUNOMIA_TYPE_CHAR, 15, 1);
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_type_field(source.type, 4, &field));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_type_field(comm, 16, &field));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_type_field(field_of(source.type, 0).type, 0, &field));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_source_at(vm, 1, &source));
    CHECK(eunomia_source_count(vm) == 1);
}

static void types_outlive_the_call_that_returned_them(void) {
    eunomia_vm *other = open_vm();
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    const char *out;
    ok(other, eunomia_map_find(other, "counts", &map));
    CHECK(map.fd == -1);
    start(other);
    ok(other, eunomia_detach(other));
    ok(other, eunomia_describe(other, &out, NULL));
    CHECK(strcmp(eunomia_type_name(map.key_type), "__u32") == 0 && eunomia_type_size(map.value_type) == 8);
    eunomia_destroy(other);
}

// ---- maps ----

static void maps_are_described(void) {
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    int count = eunomia_map_count(vm), found = 0;
    for (int i = 0; i < count; i++) {
        ok(vm, eunomia_map_at(vm, i, &map));
        CHECK(map.fd >= 0 && map.cpus >= 1);
        found += strcmp(map.name, "events") == 0 || strcmp(map.name, "counts") == 0;
    }
    CHECK(found == 2);
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_map_at(vm, count, &map));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_map_at(vm, -1, &map));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_map_find(vm, "nothing", &map));
    ok(vm, eunomia_map_find(vm, "per_cpu", &map));
    CHECK(map.key_size == 4 && map.value_size == 4 && map.max_entries == 2);
    CHECK(map.cpus >= (uint32_t)sysconf(_SC_NPROCESSORS_CONF));
}

static void maps_are_read_and_written_as_bytes(void) {
    uint32_t key = 5;
    uint64_t value = 500, back = 0;
    ok(vm, eunomia_map_set(vm, "counts", &key, sizeof(key), &value, sizeof(value), 1));
    CHECK_STATUS(EUNOMIA_ERR_SYSTEM,
                 eunomia_map_set(vm, "counts", &key, sizeof(key), &value, sizeof(value), 1));
    CHECK(eunomia_errsys(vm) == EEXIST);
    ok(vm, eunomia_map_get(vm, "counts", &key, sizeof(key), &back, sizeof(back)));
    CHECK(back == 500);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_map_get(vm, "counts", &key, 3, &back, sizeof(back)));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_map_get(vm, "counts", &key, sizeof(key), &back, 7));
    ok(vm, eunomia_map_del(vm, "counts", &key, sizeof(key)));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_map_del(vm, "counts", &key, sizeof(key)));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND,
                 eunomia_map_get(vm, "counts", &key, sizeof(key), &back, sizeof(back)));
}

static void map_next_works_with_one_buffer(void) {
    uint32_t key = 0;
    uint64_t value = 1, sum = 0;
    int count = 0, status;
    for (uint32_t i = 1000; i < 1010; i++)
        ok(vm, eunomia_map_set(vm, "counts", &i, sizeof(i), &value, sizeof(value), 0));
    status = eunomia_map_next(vm, "counts", NULL, &key, sizeof(key));
    for (; status == 0; status = eunomia_map_next(vm, "counts", &key, &key, sizeof(key)), count++)
        sum += key >= 1000 && key < 1010 ? key : 0;
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, status);
    CHECK(sum == 10045);
    CHECK_STATUS(count, eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_RAW, ignore_event, NULL));
}

static void per_cpu_maps_have_a_value_per_cpu(void) {
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    uint64_t values[4096] = {0}, sum = 0;
    uint32_t key = 0;
    trigger(vm, 1);
    drain(vm);
    ok(vm, eunomia_map_find(vm, "per_cpu", &map));
    CHECK(map.cpus <= 4096);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_map_get(vm, "per_cpu", &key, sizeof(key), values, 4));
    ok(vm, eunomia_map_get(vm, "per_cpu", &key, sizeof(key), values, map.cpus * sizeof(values[0])));
    for (uint32_t i = 0; i < map.cpus; i++)
        sum += values[i];
    CHECK(sum > 0);
}

static int look_at_entry(void *arg, const eunomia_event *event) {
    CHECK(event->kind == EUNOMIA_EVENT_MAP_ENTRY && strcmp(event->source, "counts") == 0);
    if (event->format == EUNOMIA_FORMAT_JSON && strcmp(event->key, "1001") == 0) {
        CHECK(strcmp(event->data, "{\"key\":1001,\"value\":1}") == 0 && event->key_len == 4);
        ++*(int *)arg;
    }
    if (event->format == EUNOMIA_FORMAT_RAW && *(const uint32_t *)event->key == 1001) {
        CHECK(event->len == 8 && event->key_len == 4 && *(const uint64_t *)event->data == 1);
        CHECK(eunomia_type_size(event->type) == 8);
        ++*(int *)arg;
    }
    return 0;
}

static void entries_come_with_their_key(void) {
    uint64_t before = stats_of(vm).events;
    int found = 0;
    ok(vm, eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_JSON, look_at_entry, &found));
    ok(vm, eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_RAW, look_at_entry, &found));
    CHECK(found == 2);
    CHECK(stats_of(vm).events == before);
}

// ---- the rest ----

static void the_counters_add_up(void) {
    eunomia_stats before = stats_of(vm), after;
    trigger(vm, 10);
    CHECK(drain(vm) == 10);
    after = stats_of(vm);
    CHECK(after.events == before.events + 10 && after.polls > before.polls);
    CHECK(after.bytes == before.bytes + 10 * sizeof(struct call_event));
    CHECK(after.malformed == 0 && after.lost_queue == 0 && after.guest_dropped == 0 && after.replaces == 0);
}

static void a_poll_respects_its_budget(void) {
    eunomia_vm *other = running_vm_with(4);
    trigger(other, 10);
    CHECK_STATUS(4, eunomia_poll(other, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_STATUS(4, eunomia_poll(other, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_STATUS(2, eunomia_poll(other, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_STATUS(0, eunomia_poll(other, 1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    eunomia_destroy(other);
    drain(vm);
}

// Checks that source and type are those of the data. arg: the number of records of each source.
static int check_source(void *arg, const eunomia_event *event) {
    int *counts = arg, index = strcmp(event->source, "firsts") == 0 ? 0 : 1;
    CHECK(index == 0 || strcmp(event->source, "seconds") == 0);
    CHECK(event->len == (index == 0 ? sizeof(uint32_t) : 2 * sizeof(uint64_t)));
    CHECK(*(const uint32_t *)event->data == (uint32_t)index + 1);
    CHECK(strcmp(eunomia_type_name(event->type), index == 0 ? "struct first" : "struct second") == 0);
    CHECK(event->time_ns > 0 && event->key_len == 0 && event->cpu == -1);
    counts[index]++;
    return 0;
}

static void each_record_has_its_own_source_and_type(void) {
    size_t len;
    uint32_t pid = (uint32_t)getpid();
    int counts[2] = {0, 0};
    void *object = read_file(package_path("two.o"), &len);
    eunomia_vm *two = empty_vm();
    ok(two, eunomia_open_object(two, object, len, NULL));
    free(object);
    ok(two, eunomia_attach(two));
    ok(two, eunomia_var_set(two, "target", &pid, sizeof(pid)));
    for (int i = 0; i < 3; i++)
        syscall(SYS_getpgid, 0);
    CHECK_STATUS(6, eunomia_poll(two, 0, EUNOMIA_FORMAT_RAW, check_source, counts));
    CHECK(counts[0] == 3 && counts[1] == 3);
    eunomia_destroy(two);
}

// Records of a perf buffer, and the number that the kernel reports as dropped.
struct totals {
    uint64_t samples, lost;
};

static int keep_totals(void *arg, const eunomia_event *event) {
    struct totals *totals = arg;
    CHECK(event->cpu >= 0 && event->cpu < sysconf(_SC_NPROCESSORS_CONF));
    CHECK(strcmp(event->source, "events") == 0 && (event->kind == EUNOMIA_EVENT_LOST) == (event->lost > 0));
    if (event->kind == EUNOMIA_EVENT_SAMPLE) {
        const uint32_t *pid = event->data;
        CHECK(event->len >= 8 && (uintptr_t)pid % 8 == 0 && *pid == (uint32_t)getpid());
        totals->samples++;
    }
    totals->lost += event->lost;
    return 0;
}

static void a_perf_buffer_reports_its_drops(void) {
    size_t len;
    int status;
    struct totals totals = {0};
    eunomia_vm *other = NULL;
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    cpu_set_t all, one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one); // each CPU has a buffer, which reports its own drops
    CHECK(sched_getaffinity(0, sizeof(all), &all) == 0 && sched_setaffinity(0, sizeof(one), &one) == 0);
    options.perf_pages = 1;
    CHECK_STATUS(EUNOMIA_OK, eunomia_new(&other, &options));
    char *object = read_file(package_path("perf.o"), &len);
    ok(other, eunomia_open_object(other, object, len, NULL));
    free(object);
    start(other);
    trigger(other, 1000); // more than fits in a page
    CHECK_STATUS(1, eunomia_poll(other, -1, EUNOMIA_FORMAT_RAW, keep_totals, &totals) > 0);
    trigger(other, 1); // the next record that fits carries the report
    while ((status = eunomia_poll(other, 0, EUNOMIA_FORMAT_RAW, keep_totals, &totals)) > 0)
        ;
    CHECK_STATUS(0, status);
    CHECK(totals.lost > 0 && totals.samples + totals.lost == 1001);
    CHECK(stats_of(other).events == totals.samples && stats_of(other).lost_kernel == totals.lost);
    CHECK(sched_setaffinity(0, sizeof(all), &all) == 0);
    eunomia_destroy(other);
    drain(vm);
}

static int end_the_run(void *arg, const eunomia_event *event) {
    (void)event;
    return ++*(int *)arg == 2;
}

static void a_positive_result_ends_a_run(void) {
    int count = 0;
    trigger(vm, 3);
    CHECK_STATUS(EUNOMIA_OK, eunomia_run(vm, EUNOMIA_FORMAT_RAW, end_the_run, &count));
    CHECK(count == 2 && drain(vm) == 1);
}

static void programs_are_described(void) {
    eunomia_prog_info prog = EUNOMIA_INIT(eunomia_prog_info);
    CHECK(eunomia_prog_count(vm) == 1);
    ok(vm, eunomia_prog_find(vm, "on_call", &prog));
    CHECK(prog.id != 0 && prog.type == 17); // BPF_PROG_TYPE_RAW_TRACEPOINT
    CHECK(prog.flags == (EUNOMIA_PROG_AUTOLOAD | EUNOMIA_PROG_LOADED | EUNOMIA_PROG_ATTACHED));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_prog_at(vm, 1, &prog));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_prog_at(vm, -1, &prog));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_prog_find(vm, "nothing", &prog));
}

static int find_own_pid(void *arg, const eunomia_event *event) {
    char line[32];
    snprintf(line, sizeof(line), "pid %d", getpid());
    CHECK(strcmp(event->source, "tasks") == 0 && event->format == EUNOMIA_FORMAT_TEXT);
    CHECK(strlen(event->data) == event->len);
    *(int *)arg += strcmp(event->data, line) == 0;
    return 0;
}

static void an_iterator_is_read_to_its_end(void) {
    size_t len;
    int found = 0;
    char *object = read_file(package_path("tasks.o"), &len);
    eunomia_vm *other = empty_vm();
    CHECK_STATUS(EUNOMIA_KIND_JSON, eunomia_open_object(other, object, len, NULL));
    free(object);
    ok(other, eunomia_attach(other));
    CHECK(eunomia_source_count(other) == 0);
    CHECK(eunomia_iter_each(other, "tasks", find_own_pid, &found) > 1);
    CHECK(found == 1);
    CHECK_STATUS(0, eunomia_poll(other, 0, EUNOMIA_FORMAT_JSON, ignore_event, NULL));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_iter_each(other, "nothing", ignore_event, NULL));
    eunomia_destroy(other);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = running_vm();
    RUN(json_comes_in_order_of_declaration);
    RUN(text_has_a_header_that_is_not_counted);
    RUN(raw_records_are_as_the_kernel_wrote_them);
    RUN(a_type_lists_its_members);
    RUN(types_outlive_the_call_that_returned_them);
    RUN(maps_are_described);
    RUN(maps_are_read_and_written_as_bytes);
    RUN(map_next_works_with_one_buffer);
    RUN(per_cpu_maps_have_a_value_per_cpu);
    RUN(entries_come_with_their_key);
    RUN(the_counters_add_up);
    RUN(a_poll_respects_its_budget);
    RUN(a_positive_result_ends_a_run);
    RUN(each_record_has_its_own_source_and_type);
    RUN(a_perf_buffer_reports_its_drops);
    RUN(programs_are_described);
    RUN(an_iterator_is_read_to_its_end);
    eunomia_destroy(vm);
    return 0;
}
