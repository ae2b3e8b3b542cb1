// Reads raw records of the example "bootstrap" as C structs, without JSON, until Ctrl-C.
// usage: raw target/packages/bootstrap/package.json
#include <csignal>
#include <eunomia.hpp>
#include <iostream>

// The header's struct event is not eunomia::event.
namespace bootstrap {
#include "../bpf/bootstrap/bootstrap.h"
}

static const eunomia::vm *running;

static void show(const eunomia::event &event) {
    if (const auto *record = event.as<bootstrap::event>()) { // nullptr if it is too short
        std::cout << record->pid << ' ' << record->comm << ' ';
        if (record->exit_event)
            std::cout << "exit " << record->exit_code << std::endl;
        else
            std::cout << record->filename << std::endl;
    }
}

int main(int argc, char **argv) try {
    eunomia::vm vm;
    vm.open_file(argc > 1 ? argv[1] : "package.json");
    vm.load();
    if (vm.source_at(0).record_size != sizeof(bootstrap::event)) {
        std::cerr << "not the records of bootstrap\n";
        return 1;
    }
    vm.attach();
    running = &vm;
    std::signal(SIGINT, [](int) { running->stop(); });
    vm.run(eunomia::format::raw, show);
} catch (const eunomia::error &error) {
    std::cerr << error.what() << '\n' << error.detail();
    return 1;
}
