// Runs a package and prints one line of JSON per event, until Ctrl-C.
// usage: events PACKAGE [ARGUMENT]...   (arguments as the package describes them, such as --help)
#include <csignal>
#include <eunomia.hpp>
#include <iostream>

static const eunomia::vm *running;

int main(int argc, char **argv) try {
    if (argc < 2) {
        std::cerr << "usage: events PACKAGE [ARGUMENT]...\n";
        return 2;
    }
    eunomia::options options;
    options.log = [](eunomia::log_level, std::string_view line) { std::cerr << line << '\n'; };
    eunomia::vm vm(std::move(options));
    vm.open_file(argv[1]);
    if (vm.args_set({argv + 1, argv + argc})) {
        std::cout << vm.args_help();
        return 0;
    }
    vm.attach();
    running = &vm;
    std::signal(SIGINT, [](int) { running->stop(); });
    vm.run(eunomia::format::json,
           [](const eunomia::event &event) { std::cout << event.text() << std::endl; });
} catch (const eunomia::error &error) {
    std::cerr << error.what() << '\n' << error.detail();
    return 1;
}
