// Handles events in the host's own event loop, alongside its other work, until SIGINT or SIGTERM.
// usage: loop PACKAGE.json
#include <csignal>
#include <eunomia.hpp>
#include <iostream>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static const eunomia::vm *running;

static void on_signal(int) {
    running->stop(); // makes the vm's descriptor readable
}

static void on_event(const eunomia::event &event) {
    std::cout << event.text() << std::endl;
}

// The other work: a timer tick every second.
static int new_timer() {
    itimerspec every{{1, 0}, {1, 0}};
    int timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    ::timerfd_settime(timer, 0, &every, nullptr);
    return timer;
}

// Ends with an exception, which is EUNOMIA_ERR_STOPPED after a signal.
[[noreturn]] static void loop(eunomia::vm &vm) {
    pollfd fds[2] = {{vm.epoll_fd(), POLLIN, 0}, {new_timer(), POLLIN, 0}};
    for (;;) {
        std::uint64_t ticks;
        ::poll(fds, 2, -1);
        if (fds[1].revents && ::read(fds[1].fd, &ticks, sizeof(ticks)) > 0)
            std::cout << "tick" << std::endl;
        vm.poll(std::chrono::milliseconds(0), eunomia::format::json, on_event); // does not wait
    }
}

int main(int argc, char **argv) try {
    eunomia::vm vm;
    vm.open_file(argc > 1 ? argv[1] : "package.json");
    vm.attach();
    running = &vm;
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    loop(vm);
} catch (const eunomia::error &error) {
    if (error.status() == EUNOMIA_ERR_STOPPED)
        return 0;
    std::cerr << error.what() << '\n' << error.detail();
    return 1;
}
