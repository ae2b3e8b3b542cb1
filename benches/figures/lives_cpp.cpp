// Leaks of many vm life cycles. Prints the growth: descriptors and kB of resident memory.
// usage: lives_cpp PACKAGE COUNT
#include <eunomia.hpp>

#include <filesystem>
#include <fstream>
#include <iostream>

#include <unistd.h>

static void live(const char *package, int lives) {
    for (int i = 0; i < lives; i++) {
        eunomia::vm vm;
        vm.open_file(package);
        vm.attach();
    }
}

static long descriptors() {
    std::filesystem::directory_iterator entries("/proc/self/fd");
    return std::distance(begin(entries), end(entries));
}

static long resident_kb() {
    long all = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> all >> resident;
    return resident * (::sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv) try {
    if (argc != 3)
        return 2;
    int count = std::stoi(argv[2]);
    live(argv[1], 10 + count / 10);
    long open = descriptors(), kb = resident_kb();
    live(argv[1], count);
    std::cout << descriptors() - open << ' ' << resident_kb() - kb << '\n';
} catch (const eunomia::error &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
