// Many life cycles of a vm leak neither descriptors nor memory. Cycles that load programs run less often,
// because the kernel waits for an RCU grace period before it frees a program.
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

// Resources of this process.
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
    // Allocators cache memory: less than one mapping, and less than the smallest heap block, per cycle.
    CHECK(after.descriptors == before.descriptors);
    CHECK(after.mappings < before.mappings + lives);
    CHECK(after.heap < before.heap + 16 * (size_t)lives);
}

static void cycle_empty(void) {
    eunomia_destroy(empty_vm());
}

static void cycle_open(void) {
    eunomia_destroy(open_vm());
}

static void cycle_loaded(void) {
    eunomia_vm *vm = open_vm();
    ok(vm, eunomia_load(vm));
    eunomia_destroy(vm);
}

static void cycle_running(void) {
    eunomia_vm *vm = running_vm();
    const char *out;
    trigger(vm, 2);
    CHECK_STATUS(2, eunomia_poll(vm, -1, EUNOMIA_FORMAT_JSON, ignore_event, NULL));
    ok(vm, eunomia_describe(vm, &out, NULL));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_var_get_json(vm, "nothing", &out));
    ok(vm, eunomia_detach(vm));
    eunomia_destroy(vm);
}

static void cycle_failing(void) {
    eunomia_vm *vm = empty_vm();
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, eunomia_open(vm, "{\"meta\":", 8, EUNOMIA_KIND_ANY));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_attach(vm));
    eunomia_destroy(vm);
}

static void cycle_with_queue(void) {
    eunomia_vm *vm = running_vm();
    ok(vm, eunomia_queue_start(vm, 1 << 20));
    trigger(vm, 2);
    ok(vm, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    eunomia_destroy(vm);
}

static void empty_vms_leak_nothing(void) {
    check_no_growth(cycle_empty, repeats);
}

static void opened_packages_leak_nothing(void) {
    check_no_growth(cycle_open, repeats);
}

static void loaded_packages_leak_nothing(void) {
    check_no_growth(cycle_loaded, repeats / 5 + 10);
}

static void running_packages_leak_nothing(void) {
    check_no_growth(cycle_running, repeats / 10 + 10);
}

static void failures_leak_nothing(void) {
    check_no_growth(cycle_failing, repeats);
}

static void queues_leak_nothing(void) {
    check_no_growth(cycle_with_queue, repeats / 20 + 10);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    RUN(empty_vms_leak_nothing);
    RUN(opened_packages_leak_nothing);
    RUN(loaded_packages_leak_nothing);
    RUN(running_packages_leak_nothing);
    RUN(failures_leak_nothing);
    RUN(queues_leak_nothing);
    return 0;
}
