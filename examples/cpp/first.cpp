// The first program: opens a package, sets a variable, prints one event and ends.
// usage: first PACKAGE.json   (the package of examples/bpf/bootstrap)
#include <eunomia.hpp>
#include <iostream>

int main(int argc, char **argv) try {
    eunomia::vm vm;
    vm.open_file(argc > 1 ? argv[1] : "package.json");
    vm.var_set_json("min_duration_ns", "1000");
    vm.attach();
    vm.run(eunomia::format::json, [](const eunomia::event &event) {
        std::cout << event.text() << '\n';
        return eunomia::flow::end; // ends run
    });
} catch (const eunomia::error &error) {
    std::cerr << error.what() << '\n' << error.detail();
    return 1;
}
