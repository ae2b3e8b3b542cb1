// eunomia_replace: a package with one program of a control group and its second version.
#include "replaced.h"

#include <pthread.h>

// ---- tests ----

static void a_replace_swaps_the_program_and_reports_it(void) {
    eunomia_vm *vm = running();
    uint32_t key = 0;
    uint64_t value = 40;
    const char *text;
    CHECK(!eunomia_replace_report(vm));
    ok(vm, eunomia_map_set(vm, "kept", &key, sizeof(key), &value, sizeof(value), 0));
    CHECK(version_of(vm) == 1);
    CHECK_STATUS(EUNOMIA_OK, replace(vm, second, 0));
    CHECK(version_of(vm) == 2);
    const char *report = eunomia_replace_report(vm);
    CHECK_TEXT("\"unchanged\":false", report);
    CHECK_TEXT("\"programs\":[{\"change\":\"swapped\",\"name\":\"on_call\"", report);
    CHECK_TEXT("{\"change\":\"carried\",\"name\":\"kept\",\"reason\":null}", report);
    CHECK_TEXT("\"name\":\"resized\",\"reason\":\"another number of entries\"", report);
    CHECK_TEXT("\"grace_complete\":true", report);
    ok(vm, eunomia_map_get(vm, "kept", &key, sizeof(key), &value, sizeof(value)));
    CHECK(value == 42);
    ok(vm, eunomia_var_get_json(vm, "wanted", &text));
    CHECK(strcmp(text, "1") == 0);
    CHECK(stats_of(vm).replaces == 1 && stats_of(vm).events == 2);
    eunomia_destroy(vm);
}

static void an_equal_package_is_not_replaced(void) {
    eunomia_vm *vm = running();
    CHECK_STATUS(EUNOMIA_OK, eunomia_replace(vm, first.data, first.len, NULL));
    CHECK_TEXT("\"unchanged\":true", eunomia_replace_report(vm));
    CHECK(version_of(vm) == 1 && stats_of(vm).replaces == 0);
    eunomia_destroy(vm);
}

static void a_failed_replace_leaves_the_old_version_running(void) {
    eunomia_vm *vm = running();
    struct package garbage = {"{", 1};
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, replace(vm, garbage, 0));
    CHECK(strlen(eunomia_errmsg(vm)) > 0);
    CHECK_TEXT("\"error\":\"", eunomia_replace_report(vm));
    CHECK(version_of(vm) == 1);
    CHECK_STATUS(EUNOMIA_ERR_TYPE, replace(vm, second, EUNOMIA_REPLACE_STRICT_MAPS));
    CHECK_TEXT("resized", eunomia_errmsg(vm));
    CHECK_TEXT("another number of entries", eunomia_replace_report(vm));
    CHECK_TEXT("\"subject\":\"resized\"", eunomia_replace_report(vm));
    CHECK(version_of(vm) == 1 && stats_of(vm).replaces == 0);
    CHECK_STATUS(EUNOMIA_OK, replace(vm, second, 0));
    CHECK(version_of(vm) == 2);
    eunomia_destroy(vm);
}

static void a_package_is_replaced_only_while_it_is_attached(void) {
    eunomia_vm *empty = empty_vm(), *vm = open_first();
    CHECK_STATUS(EUNOMIA_ERR_STATE, replace(empty, second, 0));
    CHECK_STATUS(EUNOMIA_ERR_STATE, replace(vm, second, 0));
    ok(vm, eunomia_load(vm));
    CHECK_STATUS(EUNOMIA_ERR_STATE, replace(vm, second, 0));
    CHECK_TEXT("not attached", eunomia_errmsg(vm));
    eunomia_destroy(vm);
    eunomia_destroy(empty);
}

static void flags_decide_about_maps_and_variables(void) {
    eunomia_vm *vm = running();
    uint32_t key = 0, version = 5;
    uint64_t value = 40;
    size_t len = sizeof(version);
    ok(vm, eunomia_map_set(vm, "kept", &key, sizeof(key), &value, sizeof(value), 0));
    ok(vm, eunomia_var_set(vm, "version", &version, sizeof(version)));
    CHECK_STATUS(EUNOMIA_OK, replace(vm, second, EUNOMIA_REPLACE_FRESH_MAPS | EUNOMIA_REPLACE_ORDERED));
    CHECK_TEXT("\"name\":\"kept\",\"reason\":\"requested by the host\"", eunomia_replace_report(vm));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND,
                 eunomia_map_get(vm, "kept", &key, sizeof(key), &value, sizeof(value)));
    CHECK_STATUS(EUNOMIA_OK, replace(vm, first, EUNOMIA_REPLACE_FRESH_VARS));
    ok(vm, eunomia_var_get(vm, "version", &version, &len));
    CHECK(version == 1);
    call(1);
    CHECK(drain(vm) == 0); // `wanted` is 0 again
    eunomia_destroy(vm);
}

static void malformed_arguments_are_refused(void) {
    eunomia_vm *vm = running();
    eunomia_replace_options options = EUNOMIA_INIT(eunomia_replace_options);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_replace(NULL, first.data, first.len, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_replace(vm, NULL, 1, NULL));
    CHECK_TEXT("data", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, replace(vm, second, 1u << 30));
    CHECK_TEXT("options.flags is 0x40000000", eunomia_errmsg(vm));
    options.reserved = 1;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_replace(vm, second.data, second.len, &options));
    CHECK_TEXT("options.reserved is 1", eunomia_errmsg(vm));
    options.reserved = 0;
    options.size = 0;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_replace(vm, second.data, second.len, &options));
    options.size = sizeof(options.size);
    options.flags = 1u << 30; // beyond this caller's struct
    CHECK_STATUS(EUNOMIA_OK, eunomia_replace(vm, second.data, second.len, &options));
    CHECK(!eunomia_replace_report(NULL));
    CHECK(version_of(vm) == 2);
    eunomia_destroy(vm);
}

static void records_of_the_old_version_have_their_own_type(void) {
    eunomia_vm *vm = running();
    uint64_t room[64];
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    call(1);
    call(2);
    CHECK_STATUS(EUNOMIA_OK, replace(vm, second, 0));
    call(3);
    CHECK_STATUS(2, eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, room, sizeof(room), &batch));
    CHECK(strcmp(batch.name, "events") == 0 && batch.kind == EUNOMIA_EVENT_SAMPLE);
    CHECK(eunomia_type_size(batch.type) == sizeof(struct old_event));
    batch = (eunomia_batch)EUNOMIA_INIT(eunomia_batch);
    CHECK_STATUS(1, eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, room, sizeof(room), &batch));
    CHECK(eunomia_type_size(batch.type) == sizeof(struct new_event));
    CHECK_TEXT("\"events_from_old\":2", eunomia_replace_report(vm));
    CHECK_STATUS(0, eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, room, sizeof(room), &batch));
    CHECK(!batch.name && !batch.type);
    eunomia_destroy(vm);
}

static int replace_inside(void *arg, const eunomia_event *event) {
    (void)event;
    CHECK_STATUS(EUNOMIA_ERR_BUSY, replace(arg, second, 0));
    CHECK_TEXT("callback", eunomia_errmsg(arg));
    return 0;
}

static void a_callback_cannot_replace_its_package(void) {
    eunomia_vm *vm = running();
    call(1);
    CHECK_STATUS(1, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, replace_inside, vm));
    CHECK(version_of(vm) == 1);
    eunomia_destroy(vm);
}

// A replace fails here too: the call of the polling thread does not hide the message.
static void a_package_is_replaced_while_another_thread_polls(void) {
    int turns = repeats < 20 ? repeats : 20, before = 0;
    struct poller poller = {running(), {0, 0, 0}};
    struct package garbage = {"garbage", 7};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, poll_until_stopped, &poller) == 0);
    for (int turn = 0; turn < turns; turn++) {
        call((uint32_t)turn);
        CHECK_STATUS(EUNOMIA_OK, replace(poller.vm, turn % 2 ? first : second, 0));
        if (turn == 1)
            before = count_descriptors();
    }
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, replace(poller.vm, garbage, 0));
    CHECK_TEXT("\"error\":\"", eunomia_replace_report(poller.vm));
    CHECK_TEXT("not a package", eunomia_errmsg(poller.vm));
    CHECK(count_descriptors() == before);
    eunomia_stop(poller.vm);
    CHECK(pthread_join(thread, NULL) == 0);
    while (eunomia_poll(poller.vm, 0, EUNOMIA_FORMAT_RAW, count_versions, poller.counts) > 0) {
    }
    CHECK(poller.counts[1] == turns / 2 && poller.counts[2] == turns / 2);
    CHECK(stats_of(poller.vm).replaces == (uint64_t)turns);
    eunomia_destroy(poller.vm);
}

int main(int argc, char **argv) {
    begin_replaced(argc, argv);
    RUN(a_replace_swaps_the_program_and_reports_it);
    RUN(an_equal_package_is_not_replaced);
    RUN(a_failed_replace_leaves_the_old_version_running);
    RUN(a_package_is_replaced_only_while_it_is_attached);
    RUN(flags_decide_about_maps_and_variables);
    RUN(malformed_arguments_are_refused);
    RUN(records_of_the_old_version_have_their_own_type);
    RUN(a_callback_cannot_replace_its_package);
    RUN(a_package_is_replaced_while_another_thread_polls);
    end_replaced();
    return 0;
}
