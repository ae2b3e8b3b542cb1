// WASM packages from C: open, run, stop, and leaks.
#include "test.h"

#include <signal.h>
#include <sys/time.h>

static eunomia_vm *vm;
static const char *const argv[] = {"guest", "one", NULL};

// The result of a run.
static struct {
    int events;
    char line[64];
} seen;

static int see(void *arg, const eunomia_event *event) {
    CHECK(event->kind == EUNOMIA_EVENT_OUTPUT && event->format == EUNOMIA_FORMAT_TEXT);
    CHECK(strlen(event->data) == event->len && strcmp(event->source, "stdout") == 0);
    snprintf(seen.line, sizeof(seen.line), "%s", (const char *)event->data);
    seen.events++;
    return arg ? *(int *)arg : 0;
}

static int run(int *exit_code, int *answer) {
    memset(&seen, 0, sizeof(seen));
    return eunomia_wasm_run(vm, 2, argv, exit_code, EUNOMIA_FORMAT_JSON, see, answer);
}

static eunomia_vm *guest_vm(const char *name) {
    eunomia_vm *made = empty_vm();
    CHECK_STATUS(EUNOMIA_KIND_WASM, eunomia_open_file(made, package_path(name), EUNOMIA_KIND_ANY));
    return made;
}

static void the_kind_is_returned_and_can_be_rejected(void) {
    size_t len;
    void *data = read_file(package_path("hello.wasm"), &len);
    eunomia_vm *other = empty_vm();
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, eunomia_open(other, data, len, EUNOMIA_KIND_JSON));
    CHECK_STATUS(EUNOMIA_KIND_WASM, eunomia_open(other, data, len, EUNOMIA_KIND_WASM));
    eunomia_destroy(other);
    free(data);
}

static void a_run_returns_output_and_exit_code(void) {
    int code = -1, end = 1, fail = -4;
    ok(vm, run(&code, NULL));
    CHECK(code == 5 && seen.events == 1);
    CHECK_TEXT("hello [\"guest\",\"one\"]", seen.line);
    CHECK_STATUS(EUNOMIA_OK, run(NULL, NULL));
    code = -1;
    CHECK_STATUS(EUNOMIA_OK, run(&code, &end));
    CHECK(code == 0);
    code = -1;
    CHECK_STATUS(EUNOMIA_ERR_CALLBACK, run(&code, &fail));
    CHECK(code == -1);
}

static void arguments_are_checked(void) {
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_wasm_run(NULL, 1, argv, NULL, EUNOMIA_FORMAT_JSON, see, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_wasm_run(vm, 1, NULL, NULL, EUNOMIA_FORMAT_JSON, see, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_wasm_run(vm, -1, argv, NULL, EUNOMIA_FORMAT_JSON, see, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_wasm_run(vm, 3, argv, NULL, EUNOMIA_FORMAT_JSON, see, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_wasm_run(vm, 1, argv, NULL, 3, see, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_wasm_run(vm, 1, argv, NULL, EUNOMIA_FORMAT_JSON, NULL, NULL));
    eunomia_vm *other = empty_vm();
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_wasm_run(other, 1, argv, NULL, EUNOMIA_FORMAT_JSON, see, NULL));
    eunomia_destroy(other);
}

#define WRONG(call) CHECK_STATUS(EUNOMIA_ERR_STATE, call)

static void other_calls_fail_with_state(void) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    const char *out;
    char buf[8] = {0};
    WRONG(eunomia_open_file(vm, package_path("hello.wasm"), EUNOMIA_KIND_ANY));
    WRONG(eunomia_load(vm));
    WRONG(eunomia_attach(vm));
    WRONG(eunomia_detach(vm));
    WRONG(eunomia_args_set(vm, 2, argv));
    WRONG(eunomia_args_help(vm, &out));
    WRONG(eunomia_poll(vm, 0, EUNOMIA_FORMAT_JSON, see, NULL));
    WRONG(eunomia_run(vm, EUNOMIA_FORMAT_JSON, see, NULL));
    WRONG(eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, buf, sizeof(buf), &batch));
    WRONG(eunomia_queue_start(vm, 0));
    WRONG(eunomia_map_count(vm));
    WRONG(eunomia_map_find(vm, "x", &map));
    WRONG(eunomia_source_count(vm));
    WRONG(eunomia_prog_count(vm));
    WRONG(eunomia_describe(vm, &out, NULL));
    WRONG(eunomia_var_get_json(vm, "x", &out));
    CHECK_TEXT("WASM module", eunomia_errmsg(vm));
}

// Calls the vm from inside its own callback.
static int call_back(void *arg, const eunomia_event *event) {
    (void)arg, (void)event;
    seen.events++;
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_wasm_run(vm, 2, argv, NULL, EUNOMIA_FORMAT_JSON, see, NULL));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_load(vm));
    eunomia_destroy(vm);
    return 0;
}

static void a_run_inside_a_run_fails(void) {
    memset(&seen, 0, sizeof(seen));
    ok(vm, eunomia_wasm_run(vm, 2, argv, NULL, EUNOMIA_FORMAT_JSON, call_back, NULL));
    CHECK(seen.events == 1);
    ok(vm, run(NULL, NULL));
}

static void a_trap_has_a_message_and_a_stack_trace(void) {
    eunomia_vm *good = vm;
    vm = guest_vm("trap.wasm");
    CHECK_STATUS(EUNOMIA_ERR_WASM, run(NULL, NULL));
    CHECK_TEXT("unreachable", eunomia_errmsg(vm));
    CHECK_TEXT("bpf_main", eunomia_errdetail(vm));
    eunomia_destroy(vm);
    vm = good;
}

static void on_alarm(int number) {
    (void)number;
    eunomia_stop(vm);
}

static void a_signal_handler_stops_a_loop(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval timer = {.it_value = {.tv_usec = 20000}};
    eunomia_vm *good = vm;
    vm = guest_vm("loop.wasm");
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, run(NULL, NULL));
    eunomia_destroy(vm);
    vm = good;
}

static void options_are_applied(void) {
    const char *const dirs[] = {"/tmp", "/nothing/here", NULL};
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    eunomia_vm *good = vm;
    options.wasm_dirs = dirs;
    options.flags = EUNOMIA_WASM_RAW_EVENTS | EUNOMIA_WASM_STDIO;
    CHECK_STATUS(EUNOMIA_OK, eunomia_new(&vm, &options));
    CHECK_STATUS(EUNOMIA_KIND_WASM, eunomia_open_file(vm, package_path("hello.wasm"), EUNOMIA_KIND_ANY));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, run(NULL, NULL));
    CHECK_TEXT("/nothing/here", eunomia_errmsg(vm));
    eunomia_destroy(vm);
    vm = good;
}

// The sanitizers and valgrind report leaks.
static void guests_leak_nothing(void) {
    for (int i = 0; i < repeats; i++) {
        int code = -1;
        eunomia_vm *good = vm;
        vm = guest_vm(i % 2 ? "hello.wasm" : "trap.wasm");
        CHECK_STATUS(i % 2 ? EUNOMIA_OK : EUNOMIA_ERR_WASM, run(&code, NULL));
        CHECK(code == (i % 2 ? 5 : -1));
        eunomia_destroy(vm);
        vm = good;
    }
}

int main(int argc, char **args) {
    begin(argc, args);
    vm = guest_vm("hello.wasm");
    RUN(the_kind_is_returned_and_can_be_rejected);
    RUN(a_run_returns_output_and_exit_code);
    RUN(arguments_are_checked);
    RUN(other_calls_fail_with_state);
    RUN(a_run_inside_a_run_fails);
    RUN(a_trap_has_a_message_and_a_stack_trace);
    RUN(a_signal_handler_stops_a_loop);
    RUN(options_are_applied);
    RUN(guests_leak_nothing);
    eunomia_destroy(vm);
    return 0;
}
