// A panic inside the library is caught and reported, does not reach stderr, and makes the vm unusable. Needs
// the library with feature `faults`.
#include "test.h"

extern int eunomia_fault_panic(eunomia_vm *vm);

static eunomia_vm *vm;

static void check_panic_is_reported(void) {
    CHECK_TEXT("panic at src/capi/faults.rs", eunomia_errmsg(vm));
    CHECK_TEXT("injected fault", eunomia_errmsg(vm));
    CHECK(log_lines == 1);
    CHECK_TEXT("injected fault", log_line);
}

static void check_vm_is_unusable(void) {
    const char *out;
    uint32_t value = 0;
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_load(vm));
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_var_get_json(vm, "burst", &out));
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_var_set(vm, "burst", &value, sizeof(value)));
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_map_count(vm));
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_describe(vm, &out, NULL));
}

static void check_rest_still_works(void) {
    stats_of(vm);
    CHECK(eunomia_epoll_fd(vm) >= 0);
    eunomia_stop(vm);
    CHECK(eunomia_errsys(vm) == 0 && strcmp(eunomia_errdetail(vm), "") == 0);
    eunomia_destroy(vm);
}

static void a_panic_makes_only_its_vm_unusable(void) {
    vm = running_vm();
    log_lines = 0;
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_fault_panic(vm));
    check_panic_is_reported();
    check_vm_is_unusable();
    check_panic_is_reported();
    check_rest_still_works();
}

static int panic_inside(void *arg, const eunomia_event *event) {
    (void)event;
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_fault_panic(vm));
    ++*(int *)arg;
    return 0;
}

static void a_panic_in_a_callback_ends_the_poll(void) {
    int calls = 0;
    vm = running_vm();
    log_lines = 0;
    trigger(vm, 3);
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, panic_inside, &calls));
    CHECK(calls == 1);
    check_panic_is_reported();
    check_vm_is_unusable();
    check_rest_still_works();
}

static void another_vm_still_works(void) {
    eunomia_vm *other = running_vm();
    vm = open_vm();
    CHECK_STATUS(EUNOMIA_ERR_INTERNAL, eunomia_fault_panic(vm));
    trigger(other, 2);
    CHECK(drain(other) == 2);
    eunomia_destroy(other);
    eunomia_destroy(vm);
}

static void the_fault_function_checks_its_vm(void) {
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_fault_panic(NULL));
}

static void nothing_reached_stderr(int copy, int file) {
    char text[256] = "";
    CHECK(dup2(copy, 2) == 2);
    CHECK(pread(file, text, sizeof(text) - 1, 0) == 0 || (fprintf(stderr, "stderr: %s\n", text), false));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int copy = dup(2), file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    CHECK(copy >= 0 && file >= 0 && dup2(file, 2) == 2);
    the_fault_function_checks_its_vm();
    a_panic_makes_only_its_vm_unusable();
    a_panic_in_a_callback_ends_the_poll();
    another_vm_still_works();
    nothing_reached_stderr(copy, file);
    close(copy);
    close(file);
    return 0;
}
