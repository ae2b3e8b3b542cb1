// Milliseconds from a file to attached programs and open buffers: plain libbpf and libeunomia, in turns.
// usage: load OBJECT PACKAGE ROUNDS
#include <bpf/libbpf.h>
#include <eunomia.h>

#include "measure.h"
#include "plain.h"

static double plain_round(const char *path) {
    double start = now_ns(), end;
    struct host host = {0};

    plain_start(&host, path);
    end = now_ns();
    plain_end(&host);
    return (end - start) / 1e6;
}

static double our_round(const char *path) {
    double start = now_ns(), end;
    eunomia_vm *vm;

    if (eunomia_new(&vm, NULL) < 0)
        die(path, "no vm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_JSON) < 0 || eunomia_attach(vm) < 0)
        die(path, eunomia_errmsg(vm));
    end = now_ns();
    eunomia_destroy(vm);
    return (end - start) / 1e6;
}

int main(int argc, char **argv) {
    static struct times plain, ours;
    int rounds;

    if (argc != 4)
        die("usage", "load OBJECT PACKAGE ROUNDS");
    rounds = atoi(argv[3]);
    plain_round(argv[1]);
    our_round(argv[2]);
    for (int round = 0; round < rounds && round < MAX_ROUNDS; round++) {
        if (round % 2)
            add(&ours, our_round(argv[2]));
        add(&plain, plain_round(argv[1]));
        if (round % 2 == 0)
            add(&ours, our_round(argv[2]));
    }
    report("load", &plain, &ours);
    return 0;
}
