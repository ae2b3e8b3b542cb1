// Runs several packages at once, each in a vm, and handles all events in one loop, until Ctrl-C.
// usage: several PACKAGE.json...
#include <csignal>
#include <eunomia.hpp>
#include <iostream>
#include <poll.h>

static volatile std::sig_atomic_t is_over;

static void on_signal(int) {
    is_over = 1;
}

int main(int argc, char **argv) try {
    std::vector<eunomia::vm> vms;
    std::vector<pollfd> fds;
    for (int i = 1; i < argc; i++) {
        eunomia::vm &vm = vms.emplace_back();
        vm.open_file(argv[i]);
        vm.attach();
        fds.push_back({vm.epoll_fd(), POLLIN, 0});
    }
    struct sigaction action = {};
    action.sa_handler = on_signal; // interrupts poll
    ::sigaction(SIGINT, &action, nullptr);
    while (!is_over) {
        if (::poll(fds.data(), fds.size(), -1) <= 0)
            continue;
        for (std::size_t i = 0; i < fds.size(); i++) {
            auto print = [&](const eunomia::event &event) {
                std::cout << argv[i + 1] << ' ' << event.text() << std::endl;
            };
            if (fds[i].revents)
                vms[i].poll(std::chrono::milliseconds(0), eunomia::format::json, print);
        }
    }
} catch (const eunomia::error &error) {
    std::cerr << error.what() << '\n' << error.detail();
    return 1;
}
