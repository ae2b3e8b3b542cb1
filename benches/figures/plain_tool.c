// Does what ecli does for opensnoop and signal, written for these two on plain libbpf: prints events as JSON
// until it is killed. usage: plain_tool OBJECT
#include "../../examples/bpf/opensnoop/opensnoop.h"
#include "plain.h"
#include "print.h"

static int print_signal(void *arg, void *data, size_t size) {
    const struct signal *event = data;

    (void)arg, (void)size;
    printf(JSON_FORMAT "\n", VALUES);
    return 0;
}

static void print_open(void *arg, int cpu, void *data, unsigned int size) {
    const struct event *e = data;

    (void)arg, (void)cpu, (void)size;
    printf("{\"ts\":%llu,\"pid\":%d,\"uid\":%u,\"ret\":%d,\"flags\":%d,\"comm\":\"%.16s\",\"fname\":\"%."
           "256s\"}\n",
           e->ts, e->pid, e->uid, e->ret, e->flags, e->comm, e->fname);
}

int main(int argc, char **argv) {
    struct host host = {.on_ring = print_signal, .on_perf = print_open};

    if (argc != 2)
        die("usage", "plain_tool OBJECT");
    plain_load(&host, argv[1]);
    plain_attach(&host);
    for (;;) {
        plain_poll(&host);
        fflush(stdout);
    }
}
