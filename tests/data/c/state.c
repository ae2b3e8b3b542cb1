// Calls out of order fail with EUNOMIA_ERR_STATE and change nothing.
#include "test.h"

#define WRONG(call) CHECK_STATUS(EUNOMIA_ERR_STATE, call)

static void an_empty_vm_can_only_be_opened(void) {
    eunomia_vm *vm = empty_vm();
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    eunomia_prog_info prog = EUNOMIA_INIT(eunomia_prog_info);
    eunomia_source_info source = EUNOMIA_INIT(eunomia_source_info);
    const char *out, *argv[] = {"x"};
    char buf[8] = {0};
    size_t len = sizeof(buf);
    WRONG(eunomia_load(vm));
    CHECK(strcmp(eunomia_errmsg(vm), "no package is open") == 0);
    WRONG(eunomia_attach(vm));
    WRONG(eunomia_detach(vm));
    WRONG(eunomia_var_set_json(vm, "x", "1"));
    WRONG(eunomia_var_set(vm, "x", buf, 4));
    WRONG(eunomia_var_get_json(vm, "x", &out));
    WRONG(eunomia_var_get(vm, "x", buf, &len));
    WRONG(eunomia_args_set(vm, 1, argv));
    WRONG(eunomia_args_help(vm, &out));
    WRONG(eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    WRONG(eunomia_poll_batch(vm, -1, ignore_batch, NULL));
    WRONG(eunomia_run(vm, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    WRONG(eunomia_read(vm, -1, EUNOMIA_FORMAT_RAW, buf, sizeof(buf), &batch));
    WRONG(eunomia_queue_start(vm, 0));
    WRONG(eunomia_queue_stop(vm));
    WRONG(eunomia_iter_each(vm, "x", ignore_event, NULL));
    WRONG(eunomia_wasm_run(vm, 1, argv, NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    WRONG(eunomia_map_count(vm));
    WRONG(eunomia_map_at(vm, 0, &map));
    WRONG(eunomia_map_find(vm, "x", &map));
    WRONG(eunomia_map_get(vm, "x", buf, 4, buf + 4, 4));
    WRONG(eunomia_map_set(vm, "x", buf, 4, buf, 4, 0));
    WRONG(eunomia_map_del(vm, "x", buf, 4));
    WRONG(eunomia_map_next(vm, "x", NULL, buf, 4));
    WRONG(eunomia_map_get_json(vm, "x", "1", &out));
    WRONG(eunomia_map_set_json(vm, "x", "1", "1", 0));
    WRONG(eunomia_map_del_json(vm, "x", "1"));
    WRONG(eunomia_map_each(vm, "x", EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    WRONG(eunomia_map_dump(vm, "x", EUNOMIA_FORMAT_RAW, buf, sizeof(buf), &batch));
    WRONG(eunomia_describe(vm, &out, &len));
    WRONG(eunomia_source_count(vm));
    WRONG(eunomia_source_at(vm, 0, &source));
    WRONG(eunomia_prog_count(vm));
    WRONG(eunomia_prog_at(vm, 0, &prog));
    WRONG(eunomia_prog_find(vm, "x", &prog));
    WRONG(eunomia_prog_set_autoload(vm, "x", 1));
    WRONG(eunomia_prog_set_target_json(vm, "x", "{}"));
    CHECK(stats_of(vm).polls == 0);
    ok(vm, eunomia_open_file(vm, package_path("calls.json"), EUNOMIA_KIND_ANY));
    eunomia_destroy(vm);
}

static void a_vm_is_opened_once(void) {
    size_t len;
    char *package = read_file(package_path("calls.json"), &len), *object;
    eunomia_vm *vm = empty_vm();
    CHECK_STATUS(EUNOMIA_KIND_JSON, eunomia_open(vm, package, len, EUNOMIA_KIND_ANY));
    WRONG(eunomia_open(vm, package, len, EUNOMIA_KIND_ANY));
    WRONG(eunomia_open_file(vm, package_path("calls.json"), EUNOMIA_KIND_ANY));
    free(package);
    object = read_file(package_path("calls.o"), &len);
    WRONG(eunomia_open_object(vm, object, len, NULL));
    free(object);
    start(vm);
    eunomia_destroy(vm);
}

static void an_opened_package_must_be_loaded_first(void) {
    eunomia_vm *vm = open_vm();
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    const char *out, *argv[] = {"x"};
    uint64_t value, room[8];
    uint32_t key = 0;
    WRONG(eunomia_wasm_run(vm, 1, argv, NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_TEXT("no WASM module", eunomia_errmsg(vm));
    WRONG(eunomia_detach(vm));
    CHECK_TEXT("not loaded", eunomia_errmsg(vm));
    WRONG(eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    WRONG(eunomia_poll_batch(vm, -1, ignore_batch, NULL));
    WRONG(eunomia_run(vm, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    WRONG(eunomia_read(vm, -1, EUNOMIA_FORMAT_RAW, room, sizeof(room), &batch));
    WRONG(eunomia_queue_start(vm, 0));
    WRONG(eunomia_map_get(vm, "counts", &key, sizeof(key), &value, sizeof(value)));
    WRONG(eunomia_map_get_json(vm, "counts", "1", &out));
    WRONG(eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    WRONG(eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_RAW, room, sizeof(room), &batch));
    CHECK(eunomia_map_count(vm) >= 3 && eunomia_prog_count(vm) == 1);
    ok(vm, eunomia_load(vm));
    eunomia_destroy(vm);
}

static void a_package_is_loaded_and_attached_once(void) {
    eunomia_vm *vm = open_vm();
    ok(vm, eunomia_load(vm));
    WRONG(eunomia_load(vm));
    CHECK_STATUS(0, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    ok(vm, eunomia_attach(vm));
    WRONG(eunomia_attach(vm));
    WRONG(eunomia_load(vm));
    eunomia_destroy(vm);
}

static void constants_are_set_before_load(void) {
    eunomia_vm *vm = open_vm();
    const char *out;
    uint32_t pid = 1;
    ok(vm, eunomia_var_set_json(vm, "target", "77"));
    ok(vm, eunomia_load(vm));
    WRONG(eunomia_var_set_json(vm, "target", "78"));
    CHECK_TEXT("target", eunomia_errmsg(vm));
    WRONG(eunomia_var_set(vm, "target", &pid, sizeof(pid)));
    ok(vm, eunomia_var_get_json(vm, "target", &out));
    CHECK(strcmp(out, "77") == 0);
    ok(vm, eunomia_var_set_json(vm, "bonus", "5"));
    eunomia_destroy(vm);
}

static void autoload_is_set_before_load_and_targets_before_attach(void) {
    eunomia_vm *vm = open_vm();
    ok(vm, eunomia_prog_set_autoload(vm, "on_call", 0));
    ok(vm, eunomia_prog_set_autoload(vm, "on_call", 1));
    ok(vm, eunomia_load(vm));
    WRONG(eunomia_prog_set_autoload(vm, "on_call", 0));
    ok(vm, eunomia_attach(vm));
    WRONG(eunomia_prog_set_target_json(vm, "on_call", "{}"));
    eunomia_destroy(vm);
}

static void detach_and_attach_can_repeat_and_keep_the_maps(void) {
    eunomia_vm *vm = running_vm();
    uint32_t pid = (uint32_t)getpid();
    uint64_t calls = 0;
    for (uint64_t round = 1; round <= 3; round++) {
        trigger(vm, 1);
        CHECK(drain(vm) == 1);
        ok(vm, eunomia_detach(vm));
        trigger(vm, 1);
        CHECK(drain(vm) == 0);
        ok(vm, eunomia_map_get(vm, "counts", &pid, sizeof(pid), &calls, sizeof(calls)));
        CHECK(calls == round);
        ok(vm, eunomia_attach(vm));
    }
    eunomia_destroy(vm);
}

static void a_queue_is_started_and_stopped_once(void) {
    eunomia_vm *vm = running_vm();
    WRONG(eunomia_queue_stop(vm));
    ok(vm, eunomia_queue_start(vm, 0));
    WRONG(eunomia_queue_start(vm, 0));
    ok(vm, eunomia_queue_stop(vm));
    WRONG(eunomia_queue_stop(vm));
    eunomia_destroy(vm);
}

static void a_failed_open_leaves_the_vm_empty(void) {
    eunomia_vm *vm = empty_vm();
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, eunomia_open(vm, "{}", 2, EUNOMIA_KIND_ANY));
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, eunomia_open(vm, NULL, 0, EUNOMIA_KIND_ANY));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_open_file(vm, "/nothing/here", EUNOMIA_KIND_ANY));
    CHECK(eunomia_errsys(vm) == ENOENT);
    CHECK_TEXT("/nothing/here", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, eunomia_open_object(vm, "no ELF", 6, NULL));
    WRONG(eunomia_load(vm));
    CHECK(eunomia_errsys(vm) == 0);
    ok(vm, eunomia_open_file(vm, package_path("calls.json"), EUNOMIA_KIND_ANY));
    eunomia_destroy(vm);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    RUN(an_empty_vm_can_only_be_opened);
    RUN(a_vm_is_opened_once);
    RUN(an_opened_package_must_be_loaded_first);
    RUN(a_package_is_loaded_and_attached_once);
    RUN(constants_are_set_before_load);
    RUN(autoload_is_set_before_load_and_targets_before_attach);
    RUN(detach_and_attach_can_repeat_and_keep_the_maps);
    RUN(a_queue_is_started_and_stopped_once);
    RUN(a_failed_open_leaves_the_vm_empty);
    return 0;
}
