// Sets variables of the example "opensnoop" before it runs, and reads its maps afterwards.
// usage: variables target/packages/opensnoop/package.json
#include <eunomia.hpp>
#include <fstream>
#include <iostream>
#include <unistd.h>

static void print(const eunomia::event &event) {
    std::cout << event.text() << '\n';
}

int main(int argc, char **argv) try {
    eunomia::vm vm;
    vm.open_file(argc > 1 ? argv[1] : "package.json");
    std::cout << "targ_failed " << vm.var_get_json("targ_failed") << '\n';

    // Constants must be set before load: one as a value, one as JSON.
    vm.var_set("targ_pid", ::getpid());
    vm.var_set_json("targ_failed", "true");
    vm.attach();

    // Only the second open fails and is reported.
    std::ifstream("/proc/self/stat");
    std::ifstream("/nothing/here");
    vm.poll(std::chrono::seconds(1), eunomia::format::json, print);

    for (int i = 0; i < vm.map_count(); i++) {
        eunomia::map_info map = vm.map_at(i);
        std::cout << "map " << map.name << ' ' << map.max_entries << '\n';
    }
    std::cout << "opens under way: " << vm.map_each("started", eunomia::format::json, print) << '\n';
} catch (const eunomia::error &error) {
    std::cerr << eunomia::status_name(error.status()) << ": " << error.what() << '\n' << error.detail();
    return 1;
}
