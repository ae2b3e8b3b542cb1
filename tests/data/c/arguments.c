// Null pointers and invalid arguments for every function: each call must fail and must not crash.
#include "test.h"

#define INVALID(call) CHECK_STATUS(EUNOMIA_ERR_INVAL, call)

static eunomia_vm *vm;

static void a_null_vm_is_invalid(void) {
    eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    eunomia_prog_info prog = EUNOMIA_INIT(eunomia_prog_info);
    eunomia_source_info source = EUNOMIA_INIT(eunomia_source_info);
    const char *out, *argv[] = {"x"};
    char buf[8] = {0};
    size_t len = sizeof(buf);
    INVALID(eunomia_open(NULL, "{}", 2, EUNOMIA_KIND_ANY));
    INVALID(eunomia_open_file(NULL, "x", EUNOMIA_KIND_ANY));
    INVALID(eunomia_open_object(NULL, "x", 1, NULL));
    INVALID(eunomia_load(NULL));
    INVALID(eunomia_attach(NULL));
    INVALID(eunomia_detach(NULL));
    INVALID(eunomia_var_set_json(NULL, "x", "1"));
    INVALID(eunomia_var_set(NULL, "x", buf, 1));
    INVALID(eunomia_var_get_json(NULL, "x", &out));
    INVALID(eunomia_var_get(NULL, "x", buf, &len));
    INVALID(eunomia_args_set(NULL, 1, argv));
    INVALID(eunomia_args_help(NULL, &out));
    INVALID(eunomia_poll(NULL, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    INVALID(eunomia_poll_batch(NULL, 0, ignore_batch, NULL));
    INVALID(eunomia_run(NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    INVALID(eunomia_epoll_fd(NULL));
    eunomia_stop(NULL);
    INVALID(eunomia_pause(NULL, 1));
    INVALID(eunomia_stats_get(NULL, &stats));
    INVALID(eunomia_read(NULL, 0, EUNOMIA_FORMAT_RAW, buf, sizeof(buf), &batch));
    INVALID(eunomia_queue_start(NULL, 0));
    INVALID(eunomia_queue_stop(NULL));
    INVALID(eunomia_iter_each(NULL, "x", ignore_event, NULL));
    INVALID(eunomia_wasm_run(NULL, 1, argv, NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    INVALID(eunomia_map_count(NULL));
    INVALID(eunomia_map_at(NULL, 0, &map));
    INVALID(eunomia_map_find(NULL, "x", &map));
    INVALID(eunomia_map_get(NULL, "x", buf, 4, buf + 4, 4));
    INVALID(eunomia_map_set(NULL, "x", buf, 4, buf + 4, 4, 0));
    INVALID(eunomia_map_del(NULL, "x", buf, 4));
    INVALID(eunomia_map_next(NULL, "x", NULL, buf, 4));
    INVALID(eunomia_map_get_json(NULL, "x", "1", &out));
    INVALID(eunomia_map_set_json(NULL, "x", "1", "1", 0));
    INVALID(eunomia_map_del_json(NULL, "x", "1"));
    INVALID(eunomia_map_each(NULL, "x", EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    INVALID(eunomia_map_dump(NULL, "x", EUNOMIA_FORMAT_RAW, buf, sizeof(buf), &batch));
    INVALID(eunomia_describe(NULL, &out, &len));
    INVALID(eunomia_source_count(NULL));
    INVALID(eunomia_source_at(NULL, 0, &source));
    INVALID(eunomia_prog_count(NULL));
    INVALID(eunomia_prog_at(NULL, 0, &prog));
    INVALID(eunomia_prog_find(NULL, "x", &prog));
    INVALID(eunomia_prog_set_autoload(NULL, "x", 1));
    INVALID(eunomia_prog_set_target_json(NULL, "x", "{}"));
    eunomia_destroy(NULL);
}

static void messages_of_a_null_vm_are_fixed(void) {
    CHECK(strcmp(eunomia_errmsg(NULL), "vm is null") == 0);
    CHECK(strcmp(eunomia_errdetail(NULL), "") == 0);
    CHECK(eunomia_errsys(NULL) == 0);
}

static void a_null_string_is_invalid_and_named(void) {
    const char *out, *argv[] = {"x", NULL};
    uint32_t key = 1, value = 1;
    size_t len = 0;
    INVALID(eunomia_open_file(vm, NULL, EUNOMIA_KIND_ANY));
    CHECK_TEXT("path is null", eunomia_errmsg(vm));
    INVALID(eunomia_var_set_json(vm, NULL, "1"));
    CHECK_TEXT("name is null", eunomia_errmsg(vm));
    INVALID(eunomia_var_set_json(vm, "burst", NULL));
    CHECK_TEXT("json is null", eunomia_errmsg(vm));
    INVALID(eunomia_var_set(vm, NULL, &value, sizeof(value)));
    INVALID(eunomia_var_get_json(vm, NULL, &out));
    INVALID(eunomia_var_get(vm, NULL, &value, &len));
    INVALID(eunomia_args_set(vm, 1, NULL));
    INVALID(eunomia_args_set(vm, 2, argv));
    CHECK_TEXT("argv[1] is null", eunomia_errmsg(vm));
    INVALID(eunomia_wasm_run(vm, 1, NULL, NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    INVALID(eunomia_wasm_run(vm, 2, argv, NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_TEXT("argv[1] is null", eunomia_errmsg(vm));
    INVALID(eunomia_iter_each(vm, NULL, ignore_event, NULL));
    INVALID(eunomia_map_get(vm, NULL, &key, sizeof(key), &value, sizeof(value)));
    INVALID(eunomia_map_set(vm, NULL, &key, sizeof(key), &value, sizeof(value), 0));
    INVALID(eunomia_map_del(vm, NULL, &key, sizeof(key)));
    INVALID(eunomia_map_next(vm, NULL, NULL, &key, sizeof(key)));
    INVALID(eunomia_map_get_json(vm, NULL, "1", &out));
    INVALID(eunomia_map_get_json(vm, "counts", NULL, &out));
    INVALID(eunomia_map_set_json(vm, NULL, "1", "1", 0));
    INVALID(eunomia_map_set_json(vm, "counts", NULL, "1", 0));
    INVALID(eunomia_map_set_json(vm, "counts", "1", NULL, 0));
    INVALID(eunomia_map_del_json(vm, NULL, "1"));
    INVALID(eunomia_map_del_json(vm, "counts", NULL));
    INVALID(eunomia_map_each(vm, NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    INVALID(eunomia_prog_set_autoload(vm, NULL, 1));
    INVALID(eunomia_prog_set_target_json(vm, NULL, "{}"));
    INVALID(eunomia_prog_set_target_json(vm, "on_call", NULL));
}

static void a_null_buffer_with_a_length_is_invalid(void) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    uint32_t key = 1;
    uint64_t value = 1;
    size_t len = 4;
    INVALID(eunomia_open(vm, NULL, 4, EUNOMIA_KIND_ANY));
    CHECK_TEXT("data is null", eunomia_errmsg(vm));
    INVALID(eunomia_open_object(vm, NULL, 4, NULL));
    INVALID(eunomia_var_set(vm, "burst", NULL, 4));
    INVALID(eunomia_var_get(vm, "burst", NULL, &len));
    CHECK(len == 4);
    INVALID(eunomia_map_get(vm, "counts", NULL, 4, &value, sizeof(value)));
    INVALID(eunomia_map_get(vm, "counts", &key, sizeof(key), NULL, 8));
    INVALID(eunomia_map_set(vm, "counts", NULL, 4, &value, sizeof(value), 0));
    INVALID(eunomia_map_set(vm, "counts", &key, sizeof(key), NULL, 8, 0));
    INVALID(eunomia_map_del(vm, "counts", NULL, 4));
    INVALID(eunomia_map_next(vm, "counts", NULL, NULL, 4));
    INVALID(eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, NULL, 8, &batch));
    INVALID(eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_RAW, NULL, 8, &batch));
}

static void a_null_out_parameter_is_invalid(void) {
    uint32_t value;
    char buf[64];
    INVALID(eunomia_new(NULL, NULL));
    INVALID(eunomia_describe(vm, NULL, NULL));
    INVALID(eunomia_var_get_json(vm, "burst", NULL));
    INVALID(eunomia_var_get(vm, "burst", &value, NULL));
    INVALID(eunomia_args_help(vm, NULL));
    INVALID(eunomia_stats_get(vm, NULL));
    INVALID(eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, buf, sizeof(buf), NULL));
    INVALID(eunomia_map_at(vm, 0, NULL));
    INVALID(eunomia_map_find(vm, "counts", NULL));
    INVALID(eunomia_map_find(vm, NULL, &(eunomia_map_info)EUNOMIA_INIT(eunomia_map_info)));
    INVALID(eunomia_map_get_json(vm, "counts", "1", NULL));
    INVALID(eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_RAW, buf, sizeof(buf), NULL));
    INVALID(eunomia_map_dump(vm, NULL, EUNOMIA_FORMAT_RAW, buf, sizeof(buf),
                             &(eunomia_batch)EUNOMIA_INIT(eunomia_batch)));
    INVALID(eunomia_source_at(vm, 0, NULL));
    INVALID(eunomia_prog_at(vm, 0, NULL));
    INVALID(eunomia_prog_find(vm, "on_call", NULL));
    INVALID(eunomia_prog_find(vm, NULL, &(eunomia_prog_info)EUNOMIA_INIT(eunomia_prog_info)));
}

static void a_null_callback_is_invalid(void) {
    INVALID(eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, NULL, NULL));
    INVALID(eunomia_poll_batch(vm, 0, NULL, NULL));
    CHECK_TEXT("callback is null", eunomia_errmsg(vm));
    INVALID(eunomia_run(vm, EUNOMIA_FORMAT_RAW, NULL, NULL));
    INVALID(eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_RAW, NULL, NULL));
    INVALID(eunomia_iter_each(vm, "on_call", NULL, NULL));
    INVALID(eunomia_wasm_run(vm, 0, NULL, NULL, EUNOMIA_FORMAT_RAW, NULL, NULL));
}

static void a_null_type_is_empty(void) {
    eunomia_field field = EUNOMIA_INIT(eunomia_field);
    CHECK(strcmp(eunomia_type_name(NULL), "") == 0);
    CHECK(eunomia_type_kind_of(NULL) == 0 && eunomia_type_size(NULL) == 0 && eunomia_type_count(NULL) == 0);
    INVALID(eunomia_type_field(NULL, 0, &field));
}

static void numbers_out_of_range_are_invalid(void) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    const char *argv[] = {"x"};
    char buf[8];
    INVALID(eunomia_open(vm, "{}", 2, 0));
    CHECK_TEXT("kinds is 0x0", eunomia_errmsg(vm));
    INVALID(eunomia_open(vm, "{}", 2, 4));
    INVALID(eunomia_open(vm, "{}", SIZE_MAX, EUNOMIA_KIND_ANY));
    INVALID(eunomia_open_file(vm, "x", 0xffffffff));
    INVALID(eunomia_args_set(vm, -1, argv));
    INVALID(eunomia_poll(vm, 0, 3, ignore_event, NULL));
    CHECK_TEXT("unknown format 3", eunomia_errmsg(vm));
    INVALID(eunomia_run(vm, 3, ignore_event, NULL));
    INVALID(eunomia_wasm_run(vm, 1, argv, NULL, 3, ignore_event, NULL));
    INVALID(eunomia_wasm_run(vm, -1, argv, NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    INVALID(eunomia_read(vm, 0, 3, buf, sizeof(buf), &batch));
    INVALID(eunomia_map_each(vm, "counts", 3, ignore_event, NULL));
    INVALID(eunomia_map_dump(vm, "counts", 3, buf, sizeof(buf), &batch));
}

static void text_that_is_not_utf8_is_invalid(void) {
    INVALID(eunomia_var_set_json(vm, "\xff", "1"));
    CHECK_TEXT("name is not UTF-8", eunomia_errmsg(vm));
    INVALID(eunomia_var_set_json(vm, "burst", "\"\xc3\""));
}

static void overlapping_key_and_value_are_invalid(void) {
    uint64_t both[2] = {1, 2};
    INVALID(eunomia_map_get(vm, "counts", both, 4, both, 8));
    CHECK_TEXT("overlap", eunomia_errmsg(vm));
    INVALID(eunomia_map_get(vm, "counts", (char *)both + 7, 4, both, 8));
}

static void out_parameters_are_unchanged_after_a_failure(void) {
    eunomia_vm *untouched = (eunomia_vm *)(uintptr_t)0x5a5a;
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    const char *out = "before";
    size_t len = 99;
    options.flags = 1u << 31;
    INVALID(eunomia_new(&untouched, &options));
    CHECK(untouched == (eunomia_vm *)(uintptr_t)0x5a5a);
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_var_get_json(vm, "nothing", &out));
    CHECK_TEXT("nothing", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_var_get(vm, "nothing", NULL, &(size_t){0}));
    CHECK(strcmp(out, "before") == 0 && len == 99);
}

static void a_rejected_package_leaves_the_vm_empty(void) {
    static const char wasm[] = "\0asm\1\0\0\0";
    eunomia_vm *other = empty_vm();
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, eunomia_open(other, wasm, 8, EUNOMIA_KIND_ANY));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_load(other));
    CHECK_STATUS(EUNOMIA_KIND_JSON, eunomia_open_file(other, package_path("calls.json"), EUNOMIA_KIND_ANY));
    eunomia_destroy(other);
    CHECK(eunomia_kinds() == EUNOMIA_KIND_ANY);
}

static void versions_are_those_of_the_header(void) {
    char version[32];
    snprintf(version, sizeof(version), "libeunomia %d.%d.%d (libbpf v1.", EUNOMIA_VERSION_MAJOR,
             EUNOMIA_VERSION_MINOR, EUNOMIA_VERSION_PATCH);
    CHECK(eunomia_version() == EUNOMIA_VERSION_NUM);
    CHECK(EUNOMIA_VERSION_NUM ==
          EUNOMIA_VERSION_MAJOR * 10000 + EUNOMIA_VERSION_MINOR * 100 + EUNOMIA_VERSION_PATCH);
    CHECK_TEXT(version, eunomia_version_string());
}

static void statuses_have_names(void) {
    CHECK(strcmp(eunomia_status_name(EUNOMIA_OK), "EUNOMIA_OK") == 0);
    CHECK(strcmp(eunomia_status_name(17), "EUNOMIA_OK") == 0);
    CHECK(strcmp(eunomia_status_name(EUNOMIA_ERR_INVAL), "EUNOMIA_ERR_INVAL") == 0);
    CHECK(strcmp(eunomia_status_name(EUNOMIA_ERR_TYPE), "EUNOMIA_ERR_TYPE") == 0);
    CHECK(strcmp(eunomia_status_name(EUNOMIA_ERR_INTERNAL), "EUNOMIA_ERR_INTERNAL") == 0);
    CHECK(strcmp(eunomia_status_name(-18), "unknown status") == 0);
    CHECK(strcmp(eunomia_status_name(-2147483647 - 1), "unknown status") == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = open_vm();
    RUN(a_null_vm_is_invalid);
    RUN(messages_of_a_null_vm_are_fixed);
    RUN(a_null_string_is_invalid_and_named);
    RUN(a_null_buffer_with_a_length_is_invalid);
    RUN(a_null_out_parameter_is_invalid);
    RUN(a_null_callback_is_invalid);
    RUN(a_null_type_is_empty);
    RUN(numbers_out_of_range_are_invalid);
    RUN(text_that_is_not_utf8_is_invalid);
    RUN(overlapping_key_and_value_are_invalid);
    RUN(out_parameters_are_unchanged_after_a_failure);
    RUN(a_rejected_package_leaves_the_vm_empty);
    RUN(versions_are_those_of_the_header);
    RUN(statuses_have_names);
    eunomia_destroy(vm);
    return 0;
}
