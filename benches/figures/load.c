// Milliseconds from a file to attached programs and open event buffers: on plain libbpf or on
// libeunomia. usage: load OBJECT-OR-PACKAGE ROUNDS
//
// Prints, for the first round and for the median of ROUNDS later ones, the times until it is loaded and
// until it is attached; and the number of instructions of an object. Each side has its own process, because
// one side's heap and caches would affect the other.
#include <bpf/libbpf.h>
#include <eunomia.h>

#include "measure.h"
#include "plain.h"

static int instructions;

static void count_instructions(const struct bpf_object *object) {
    struct bpf_program *prog;

    instructions = 0;
    bpf_object__for_each_program(prog, object) {
        instructions += bpf_program__insn_cnt(prog);
    }
}

static void plain_round(const char *path, struct times *loaded, struct times *attached) {
    double start = now_ns();
    struct host host = {0};

    plain_load(&host, path);
    add(loaded, (now_ns() - start) / 1e6);
    plain_attach(&host);
    add(attached, (now_ns() - start) / 1e6);
    count_instructions(host.object);
    plain_end(&host);
}

static void our_round(const char *path, struct times *loaded, struct times *attached) {
    double start = now_ns();
    eunomia_vm *vm;

    if (eunomia_new(&vm, NULL) < 0)
        die(path, "no vm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_JSON) < 0 || eunomia_load(vm) < 0)
        die(path, eunomia_errmsg(vm));
    add(loaded, (now_ns() - start) / 1e6);
    if (eunomia_attach(vm) < 0)
        die(path, eunomia_errmsg(vm));
    add(attached, (now_ns() - start) / 1e6);
    eunomia_destroy(vm);
}

static void measure(const char *path, int rounds) {
    static struct times loaded, attached;
    int is_ours = strstr(path, ".json") != NULL;

    loaded.count = attached.count = 0;
    for (int i = 0; i < rounds && i < MAX_ROUNDS; i++)
        (is_ours ? our_round : plain_round)(path, &loaded, &attached);
    printf("%f %f ", median(&loaded), median(&attached));
}

int main(int argc, char **argv) {
    if (argc != 3)
        die("usage", "load OBJECT-OR-PACKAGE ROUNDS");
    measure(argv[1], 1);
    measure(argv[1], atoi(argv[2]));
    printf("%d\n", instructions);
    return 0;
}
