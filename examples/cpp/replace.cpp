// Replaces a running package with a new version, and returns to the old one if no event comes within 10
// seconds. usage: replace PACKAGE.json NEW.json
#include <eunomia.hpp>
#include <fstream>
#include <iostream>
#include <iterator>

static void on_event(const eunomia::event &event) {
    std::cout << event.text() << std::endl;
}

static int run(const char *package, const char *next) {
    eunomia::options options;
    options.flags = EUNOMIA_REPLACEABLE;
    eunomia::vm vm(std::move(options));
    vm.open_file(package);
    vm.attach();
    vm.poll(eunomia::forever, eunomia::format::json, on_event);

    // Everything that can fail or takes long is in prepare. If it fails, the old version keeps running.
    std::ifstream file(next, std::ios::binary);
    std::string data{std::istreambuf_iterator<char>(file), {}};
    eunomia::prepared prepared = vm.prepare(data, eunomia::replace_flag::keep_old);
    std::cout << prepared.flip() << std::endl; // from here on, each event is one of the new version

    if (vm.poll(std::chrono::seconds(10), eunomia::format::json, on_event) > 0) {
        vm.commit();
        std::cout << "the new version stays" << std::endl;
    } else {
        vm.rollback();
        std::cout << "the old version is back" << std::endl;
    }
    return 0;
}

int main(int argc, char **argv) try {
    return argc == 3 ? run(argv[1], argv[2]) : 2;
} catch (const eunomia::error &error) {
    std::cerr << error.what() << '\n' << error.detail();
    return 1;
}
