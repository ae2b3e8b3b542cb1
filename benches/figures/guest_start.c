// Milliseconds from a guest's file to the first line of its help: read, check, instantiate and run
// main. usage: guest_start MODULE ROUNDS
#include <eunomia.h>

#include "measure.h"

static int on_line(void *arg, const eunomia_event *event) {
    double *end = arg;

    if (event->kind == EUNOMIA_EVENT_OUTPUT && *end == 0)
        *end = now_ns();
    return 0;
}

static double round_ms(const char *path) {
    const char *argv[] = {path, "-h"};
    double start = now_ns(), end = 0;
    eunomia_vm *vm;

    if (eunomia_new(&vm, NULL) < 0)
        die(path, "no vm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_WASM) < 0 ||
        eunomia_wasm_run(vm, 2, argv, NULL, EUNOMIA_FORMAT_JSON, on_line, &end) < 0)
        die(path, eunomia_errmsg(vm));
    eunomia_destroy(vm);
    if (end == 0)
        die(path, "it prints nothing");
    return (end - start) / 1e6;
}

int main(int argc, char **argv) {
    static struct times ours;
    int rounds;

    if (argc != 3)
        die("usage", "guest_start MODULE ROUNDS");
    rounds = atoi(argv[2]);
    for (int round = 0; round < rounds && round < MAX_ROUNDS; round++)
        add(&ours, round_ms(argv[1]));
    printf("start %f\n", median(&ours));
    return 0;
}
