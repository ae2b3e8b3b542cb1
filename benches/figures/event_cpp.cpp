// Nanoseconds from ring buffer to callback: the C interface and eunomia.hpp, alternating, on one vm.
// usage: event_cpp PACKAGE
//
// Records are produced before the clock starts.
#include <bpf/bpf.h>
#include <eunomia.hpp>

#include "measure.h"
#include "signal.h"

static constexpr int rounds = 500;

static struct seen { std::uint64_t events, bytes; } seen;

static int in_c(void *arg, const eunomia_event *event) {
    auto all = static_cast<struct seen *>(arg);
    all->events++;
    all->bytes += event->len;
    return 0;
}

static double c_round(const eunomia::vm &vm, eunomia::format format) {
    double start = now_ns();
    eunomia_poll(vm.raw(), 1000, static_cast<std::uint32_t>(format), in_c, &seen);
    return (now_ns() - start) / EVENTS_PER_RUN;
}

static double cpp_round(eunomia::vm &vm, eunomia::format format) {
    struct seen &all = seen;
    double start = now_ns();
    vm.poll(std::chrono::seconds(1), format, [&all](const eunomia::event &event) {
        all.events++;
        all.bytes += event.size();
    });
    return (now_ns() - start) / EVENTS_PER_RUN;
}

static void produce(int prog) {
    bpf_test_run_opts opts{};
    opts.sz = sizeof(opts);
    check(!bpf_prog_test_run_opts(prog, &opts) && !opts.retval, "running the producer");
}

// The sides alternate in going first.
static void measure(const char *name, eunomia::vm &vm, int producer, eunomia::format format) {
    static struct times c, cpp;
    c.count = cpp.count = 0;
    for (int i = 0; i < 2 * rounds; i++) {
        seen = {};
        produce(producer);
        if (i % 4 == 0 || i % 4 == 3)
            add(&c, c_round(vm, format));
        else
            add(&cpp, cpp_round(vm, format));
        if (seen.events != EVENTS_PER_RUN)
            die(name, "not all events arrived");
    }
    report(name, &c, &cpp);
}

int main(int argc, char **argv) try {
    if (argc != 2)
        die("usage", "event_cpp PACKAGE");
    eunomia::vm vm;
    vm.open_file(argv[1], eunomia::kind::json);
    vm.load();
    int producer = bpf_prog_get_fd_by_id(vm.prog_find("produce").id);
    check(producer >= 0, argv[1]);
    measure("raw", vm, producer, eunomia::format::raw);
    measure("json", vm, producer, eunomia::format::json);
} catch (const eunomia::error &error) {
    die("eunomia", error.what());
}
