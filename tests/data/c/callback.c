// Calls from a callback: most functions work, and those that would change or end the running call fail.
#include "test.h"

static eunomia_vm *vm;

// ---- ending a poll ----

static int answer(void *arg, const eunomia_event *event) {
    (void)event;
    return *(int *)arg;
}

static void a_positive_result_ends_the_poll(void) {
    int end = 5;
    trigger(vm, 3);
    CHECK_STATUS(1, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, answer, &end));
    CHECK_STATUS(1, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, answer, &end));
    CHECK(drain(vm) == 1);
}

static void a_negative_result_fails_the_poll(void) {
    int fail = -42;
    uint64_t before = stats_of(vm).events;
    trigger(vm, 3);
    CHECK_STATUS(EUNOMIA_ERR_CALLBACK, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, answer, &fail));
    CHECK_TEXT("-42", eunomia_errmsg(vm));
    CHECK(drain(vm) == 2);
    CHECK(stats_of(vm).events == before + 3);
}

static void a_negative_result_fails_a_run(void) {
    int fail = -1;
    trigger(vm, 1);
    CHECK_STATUS(EUNOMIA_ERR_CALLBACK, eunomia_run(vm, EUNOMIA_FORMAT_JSON, answer, &fail));
}

static void a_negative_result_fails_map_each(void) {
    int fail = -7;
    CHECK_STATUS(EUNOMIA_ERR_CALLBACK, eunomia_map_each(vm, "per_cpu", EUNOMIA_FORMAT_JSON, answer, &fail));
    CHECK_TEXT("-7", eunomia_errmsg(vm));
}

// ---- functions that work in a callback ----

static int call_what_is_allowed(void *arg, const eunomia_event *event) {
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    eunomia_prog_info prog = EUNOMIA_INIT(eunomia_prog_info);
    eunomia_source_info source = EUNOMIA_INIT(eunomia_source_info);
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    const char *out;
    uint32_t key = 4711, other = 0, burst = 0;
    uint64_t value = 42, back = 0, room[64];
    size_t len = sizeof(burst);
    char before[256], key_before[64];
    CHECK(event->len < sizeof(before) && event->key_len < sizeof(key_before));
    memcpy(before, event->data, event->len);
    memcpy(key_before, event->key, event->key_len);
    eunomia_event copy = *event;

    ok(vm, eunomia_var_get(vm, "burst", &burst, &len));
    ok(vm, eunomia_var_set(vm, "burst", &burst, sizeof(burst)));
    ok(vm, eunomia_var_set_json(vm, "bonus", "9"));
    ok(vm, eunomia_var_get_json(vm, "bonus", &out));
    CHECK(strcmp(out, "9") == 0);
    ok(vm, eunomia_map_set(vm, "counts", &key, sizeof(key), &value, sizeof(value), 0));
    ok(vm, eunomia_map_get(vm, "counts", &key, sizeof(key), &back, sizeof(back)));
    CHECK(back == 42);
    ok(vm, eunomia_map_next(vm, "counts", NULL, &other, sizeof(other)));
    ok(vm, eunomia_map_get_json(vm, "counts", "4711", &out));
    CHECK(strcmp(out, "42") == 0);
    ok(vm, eunomia_map_set_json(vm, "counts", "4712", "1", 0));
    ok(vm, eunomia_map_del_json(vm, "counts", "4712"));
    ok(vm, eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_JSON, room, sizeof(room), &batch));
    ok(vm, eunomia_map_del(vm, "counts", &key, sizeof(key)));
    ok(vm, eunomia_map_count(vm));
    ok(vm, eunomia_map_at(vm, 0, &map));
    ok(vm, eunomia_map_find(vm, "counts", &map));
    ok(vm, eunomia_source_count(vm));
    ok(vm, eunomia_source_at(vm, 0, &source));
    ok(vm, eunomia_prog_count(vm));
    ok(vm, eunomia_prog_at(vm, 0, &prog));
    ok(vm, eunomia_prog_find(vm, "on_call", &prog));
    CHECK(prog.flags == (EUNOMIA_PROG_AUTOLOAD | EUNOMIA_PROG_LOADED | EUNOMIA_PROG_ATTACHED));
    ok(vm, eunomia_describe(vm, &out, NULL));
    ok(vm, eunomia_args_help(vm, &out));
    ok(vm, eunomia_pause(vm, 0));
    CHECK(eunomia_epoll_fd(vm) >= 0 && stats_of(vm).polls > 0);
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_map_get_json(vm, "nothing", "1", &out));
    CHECK_TEXT("nothing", eunomia_errmsg(vm));

    // The event stays valid until the callback returns, whatever it calls.
    CHECK(memcmp(&copy, event, sizeof(copy)) == 0);
    CHECK(memcmp(before, event->data, event->len) == 0);
    CHECK(memcmp(key_before, event->key, event->key_len) == 0);
    ++*(int *)arg;
    return 0;
}

static void most_functions_work_in_a_callback(void) {
    for (uint32_t format = EUNOMIA_FORMAT_RAW; format <= EUNOMIA_FORMAT_TEXT; format++) {
        int calls = 0;
        trigger(vm, 2);
        CHECK_STATUS(2, eunomia_poll(vm, -1, format, call_what_is_allowed, &calls));
        CHECK(calls == (format == EUNOMIA_FORMAT_TEXT ? 3 : 2)); // with the table header
        calls = 0;
        CHECK_STATUS(2, eunomia_map_each(vm, "per_cpu", format, call_what_is_allowed, &calls));
        CHECK(calls == 2);
    }
}

// ---- functions that fail in a callback ----

#define REFUSED(call)                                                                                        \
    do {                                                                                                     \
        CHECK_STATUS(EUNOMIA_ERR_BUSY, call);                                                                \
        CHECK_TEXT("in use", eunomia_errmsg(vm));                                                            \
    } while (0)

static int call_what_is_refused(void *arg, const eunomia_event *event) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    uint64_t room[64];
    (void)event;
    REFUSED(eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    REFUSED(eunomia_poll_batch(vm, 0, ignore_batch, NULL));
    REFUSED(eunomia_run(vm, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    REFUSED(eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, room, sizeof(room), &batch));
    REFUSED(eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    REFUSED(eunomia_iter_each(vm, "on_call", ignore_event, NULL));
    REFUSED(eunomia_open(vm, "{}", 2, EUNOMIA_KIND_ANY));
    REFUSED(eunomia_open_file(vm, package_path("calls.json"), EUNOMIA_KIND_ANY));
    REFUSED(eunomia_open_object(vm, "x", 1, NULL));
    REFUSED(eunomia_load(vm));
    REFUSED(eunomia_attach(vm));
    REFUSED(eunomia_detach(vm));
    REFUSED(eunomia_queue_start(vm, 0));
    REFUSED(eunomia_queue_stop(vm));
    log_lines = 0;
    eunomia_destroy(vm);
    CHECK(log_lines == 1);
    CHECK_TEXT("destroy", log_line);
    ++*(int *)arg;
    return 0;
}

static void other_functions_fail_in_a_callback(void) {
    int calls = 0;
    trigger(vm, 2);
    CHECK_STATUS(2, eunomia_poll(vm, -1, EUNOMIA_FORMAT_JSON, call_what_is_refused, &calls));
    CHECK(calls == 2);
    calls = 0;
    CHECK_STATUS(2, eunomia_map_each(vm, "per_cpu", EUNOMIA_FORMAT_RAW, call_what_is_refused, &calls));
    CHECK(calls == 2);
}

static int stop_once(void *arg, const eunomia_event *event) {
    (void)event;
    if (++*(int *)arg == 1)
        eunomia_stop(vm);
    return 0;
}

static void stop_in_a_callback_ends_a_run(void) {
    int calls = 0;
    trigger(vm, 2);
    CHECK_STATUS(EUNOMIA_OK, eunomia_run(vm, EUNOMIA_FORMAT_RAW, stop_once, &calls));
    CHECK(calls >= 1);
    CHECK(calls + drain(vm) == 2);
}

static int use_another_vm(void *arg, const eunomia_event *event) {
    eunomia_vm *other = arg;
    (void)event;
    CHECK_STATUS(1, eunomia_poll(other, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    ok(other, eunomia_detach(other));
    return 0;
}

static void another_vm_may_be_polled_in_a_callback(void) {
    eunomia_vm *other = running_vm();
    trigger(vm, 1); // both vms watch this process
    CHECK_STATUS(1, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, use_another_vm, other));
    eunomia_destroy(other);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = running_vm();
    RUN(a_positive_result_ends_the_poll);
    RUN(a_negative_result_fails_the_poll);
    RUN(a_negative_result_fails_a_run);
    RUN(a_negative_result_fails_map_each);
    RUN(most_functions_work_in_a_callback);
    RUN(other_functions_fail_in_a_callback);
    RUN(stop_in_a_callback_ends_a_run);
    RUN(another_vm_may_be_polled_in_a_callback);
    eunomia_destroy(vm);
    return 0;
}
