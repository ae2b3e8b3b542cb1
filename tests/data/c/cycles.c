// Many lives of a vm leave no descriptor and no memory behind. Fewer of those in which the kernel takes its
// time: it waits for all its readers before it lets go of a program.
#include "test.h"

#include <malloc.h>

static int count_lines(const char *path) {
    int count = 0, c;
    FILE *file = fopen(path, "r");
    CHECK(file);
    while ((c = fgetc(file)) != EOF)
        count += c == '\n';
    fclose(file);
    return count;
}

// What a process holds.
struct holdings {
    int descriptors, mappings;
    size_t heap;
};

static struct holdings holdings(void) {
    struct holdings now = {count_descriptors(), count_lines("/proc/self/maps"), mallinfo2().uordblks};
    return now;
}

static void check_no_growth(void (*live)(void), int lives) {
    for (int i = 0; i < lives / 10 + 2; i++)
        live();
    struct holdings before = holdings();
    for (int i = 0; i < lives; i++)
        live();
    struct holdings after = holdings();
    // Allocators keep some for later: less than one mapping, and the least piece of heap, for each life.
    CHECK(after.descriptors == before.descriptors);
    CHECK(after.mappings < before.mappings + lives);
    CHECK(after.heap < before.heap + 16 * (size_t)lives);
}

static void live_empty(void) {
    eunomia_destroy(empty_vm());
}

static void live_open(void) {
    eunomia_destroy(open_vm());
}

static void live_loaded(void) {
    eunomia_vm *vm = open_vm();
    ok(vm, eunomia_load(vm));
    eunomia_destroy(vm);
}

static void live_fully(void) {
    eunomia_vm *vm = running_vm();
    const char *out;
    trigger(vm, 2);
    CHECK_STATUS(2, eunomia_poll(vm, -1, EUNOMIA_FORMAT_JSON, ignore_event, NULL));
    ok(vm, eunomia_describe(vm, &out, NULL));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_var_get_json(vm, "nothing", &out));
    ok(vm, eunomia_detach(vm));
    eunomia_destroy(vm);
}

static void live_in_vain(void) {
    eunomia_vm *vm = empty_vm();
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, eunomia_open(vm, "{\"meta\":", 8, EUNOMIA_KIND_ANY));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_attach(vm));
    eunomia_destroy(vm);
}

static void live_with_a_queue(void) {
    eunomia_vm *vm = running_vm();
    ok(vm, eunomia_queue_start(vm, 1 << 20));
    trigger(vm, 2);
    ok(vm, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    eunomia_destroy(vm);
}

static void empty_vms_leave_nothing_behind(void) {
    check_no_growth(live_empty, repeats);
}

static void opened_packages_leave_nothing_behind(void) {
    check_no_growth(live_open, repeats);
}

static void loaded_packages_leave_nothing_behind(void) {
    check_no_growth(live_loaded, repeats / 5 + 10);
}

static void running_packages_leave_nothing_behind(void) {
    check_no_growth(live_fully, repeats / 10 + 10);
}

static void failures_leave_nothing_behind(void) {
    check_no_growth(live_in_vain, repeats);
}

static void queues_leave_nothing_behind(void) {
    check_no_growth(live_with_a_queue, repeats / 20 + 10);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    RUN(empty_vms_leave_nothing_behind);
    RUN(opened_packages_leave_nothing_behind);
    RUN(loaded_packages_leave_nothing_behind);
    RUN(running_packages_leave_nothing_behind);
    RUN(failures_leave_nothing_behind);
    RUN(queues_leave_nothing_behind);
    return 0;
}
