// Returned strings: valid until the next call, except for calls that keep them.
#include "test.h"

static eunomia_vm *vm;

// Calls that leave returned strings valid.
static void call_functions_that_keep_strings(void) {
    stats_of(vm);
    eunomia_epoll_fd(vm);
    eunomia_pause(vm, 0);
    eunomia_stop(vm);
    eunomia_errmsg(vm);
    eunomia_errdetail(vm);
    eunomia_errsys(vm);
    eunomia_status_name(-1);
    eunomia_version_string();
}

static void a_value_is_valid_until_the_next_call(void) {
    const char *first, *second;
    ok(vm, eunomia_var_get_json(vm, "bonus", &first));
    call_functions_that_keep_strings();
    CHECK(strcmp(first, "7") == 0);
    ok(vm, eunomia_var_get_json(vm, "burst", &second));
    CHECK(strcmp(second, "1") == 0);
}

static void a_long_string_is_valid_until_the_next_call(void) {
    const char *text;
    size_t len;
    ok(vm, eunomia_describe(vm, &text, &len));
    call_functions_that_keep_strings();
    CHECK(strlen(text) == len && text[0] == '{' && text[len - 1] == '}');
    CHECK_TEXT("\"on_call\"", text);
    CHECK_TEXT("\"counts\"", text);
}

static void names_in_infos_are_valid_until_the_next_call(void) {
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    eunomia_prog_info prog = EUNOMIA_INIT(eunomia_prog_info);
    ok(vm, eunomia_map_find(vm, "counts", &map));
    call_functions_that_keep_strings();
    CHECK(strcmp(map.name, "counts") == 0);
    ok(vm, eunomia_prog_at(vm, 0, &prog));
    call_functions_that_keep_strings();
    CHECK(strcmp(prog.name, "on_call") == 0 && strcmp(prog.section, "raw_tp/sys_enter") == 0);
    CHECK(strcmp(prog.target, "") == 0);
}

static void an_error_stays_until_the_next_failure(void) {
    const char *out, *message;
    eunomia_vm *fresh = empty_vm();
    CHECK(strcmp(eunomia_errmsg(fresh), "") == 0 && strcmp(eunomia_errdetail(fresh), "") == 0);
    CHECK(eunomia_errsys(fresh) == 0);
    eunomia_destroy(fresh);
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_var_get_json(vm, "first_missing", &out));
    message = eunomia_errmsg(vm);
    call_functions_that_keep_strings();
    CHECK_TEXT("first_missing", message);
    ok(vm, eunomia_var_get_json(vm, "bonus", &out));
    CHECK_TEXT("first_missing", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_var_get_json(vm, "second_missing", &out));
    CHECK_TEXT("second_missing", eunomia_errmsg(vm));
}

static void messages_name_object_and_value(void) {
    uint16_t half = 1;
    CHECK_STATUS(EUNOMIA_ERR_TYPE, eunomia_var_set_json(vm, "burst", "4294967296"));
    CHECK_TEXT("burst", eunomia_errmsg(vm));
    CHECK_TEXT("4294967296", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_TYPE, eunomia_var_set(vm, "burst", &half, sizeof(half)));
    CHECK_TEXT("burst", eunomia_errmsg(vm));
    CHECK(!strchr(eunomia_errmsg(vm), '\n'));
    CHECK(eunomia_errmsg(vm)[strlen(eunomia_errmsg(vm)) - 1] != '.');
}

static void arguments_are_copied(void) {
    size_t len;
    char name[] = "bonus", json[] = "70";
    const char *out;
    char *package = read_file(package_path("calls.json"), &len);
    eunomia_vm *other = empty_vm();
    ok(other, eunomia_open(other, package, len, EUNOMIA_KIND_ANY));
    memset(package, 'x', len);
    free(package);
    ok(other, eunomia_var_set_json(other, name, json));
    memset(name, 'x', sizeof(name) - 1);
    memset(json, 'x', sizeof(json) - 1);
    start(other);
    ok(other, eunomia_var_get_json(other, "bonus", &out));
    CHECK(strcmp(out, "70") == 0);
    eunomia_destroy(other);
}

static void an_empty_buffer_queries_the_size(void) {
    uint64_t bonus = 0;
    size_t len = 0;
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, eunomia_var_get(vm, "bonus", NULL, &len));
    CHECK(len == sizeof(bonus));
    len = 7;
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, eunomia_var_get(vm, "bonus", &bonus, &len));
    CHECK(len == sizeof(bonus) && bonus == 0);
    ok(vm, eunomia_var_get(vm, "bonus", &bonus, &len));
    CHECK(bonus == 7 && len == sizeof(bonus));
}

static void a_command_line_sets_variables(void) {
    eunomia_vm *other = open_vm();
    const char *out, *argv[] = {"calls", "--burst", "3"}, *help[] = {"calls", "--help"};
    const char *wrong[] = {"calls", "--nothing"};
    ok(other, eunomia_args_help(other, &out));
    CHECK_TEXT("--burst", out);
    CHECK_STATUS(1, eunomia_args_set(other, 2, help));
    ok(other, eunomia_args_help(other, &out));
    CHECK_TEXT("--burst", out);
    CHECK_STATUS(0, eunomia_args_set(other, 3, argv));
    ok(other, eunomia_var_get_json(other, "burst", &out));
    CHECK(strcmp(out, "3") == 0);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_args_set(other, 2, wrong));
    CHECK_TEXT("--nothing", eunomia_errmsg(other));
    eunomia_destroy(other);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = open_vm();
    RUN(a_value_is_valid_until_the_next_call);
    RUN(a_long_string_is_valid_until_the_next_call);
    RUN(names_in_infos_are_valid_until_the_next_call);
    RUN(an_error_stays_until_the_next_failure);
    RUN(messages_name_object_and_value);
    RUN(arguments_are_copied);
    RUN(an_empty_buffer_queries_the_size);
    RUN(a_command_line_sets_variables);
    eunomia_destroy(vm);
    return 0;
}
