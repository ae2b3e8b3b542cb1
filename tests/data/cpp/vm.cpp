// What eunomia.hpp adds to the C interface: exceptions in both directions, lifetime, typed values.
// usage: vm DIRECTORY REPEATS   (DIRECTORY has calls.json and rejected.json)
#include <eunomia.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>

#include <sys/syscall.h>
#include <unistd.h>

using namespace std::chrono_literals;
using eunomia::event;
using eunomia::flow;
using eunomia::format;

// A record of tests/conformance/bpf/calls.bpf.c.
struct call_event {
    std::uint32_t seq, mode;
    std::uint64_t value;
    char text[8];
};

struct pair {
    std::int32_t left;
    std::uint16_t right;
};

static std::string folder;
static int repeats;

// The sanitizers keep freed memory, so memory use is not checked with them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static constexpr bool is_sanitized = true;
#else
static constexpr bool is_sanitized = false;
#endif

#define CHECK(condition) ((condition) ? (void)0 : die(__LINE__, #condition))
#define RUN(test) (std::fprintf(stderr, "%s\n", #test), test())

[[noreturn]] static void die(int line, const std::string &what) {
    std::fprintf(stderr, "vm.cpp:%d: %s\n", line, what.c_str());
    std::exit(1);
}

// Returns the error of a call that must fail.
template <class Call> static eunomia::error failure(int line, Call &&call) {
    try {
        call();
    } catch (const eunomia::error &error) {
        return error;
    }
    die(line, "no exception came");
}
#define FAILURE(call) failure(__LINE__, [&] { call; })

static eunomia::vm opened() {
    eunomia::vm vm;
    CHECK(vm.open_file(folder + "/calls.json") == eunomia::kind::json);
    return vm;
}

static eunomia::vm running() {
    eunomia::vm vm = opened();
    vm.var_set("target", static_cast<std::uint32_t>(getpid()));
    vm.attach();
    return vm;
}

static void trigger(eunomia::vm &vm, std::uint32_t events) {
    vm.var_set("burst", events);
    ::syscall(SYS_getpgid, 0);
}

// ---- exceptions ----

struct own_exception : std::exception {
    int value;
    explicit own_exception(int number) : value(number) {}
};

static void throw_seven(const event &) {
    throw own_exception(7);
}

template <class Call> static bool throws_seven(Call &&call) {
    try {
        call();
    } catch (const own_exception &e) {
        return e.value == 7;
    }
    return false;
}

static void a_batch_has_all_records() {
    eunomia::vm vm = running();
    std::size_t count = 0;
    trigger(vm, 3);
    CHECK(vm.poll_batch(eunomia::forever, [&](const eunomia::records &records) {
        for (std::size_t i = 0; i < records.count; i++)
            count += records.spans[i].len > 0;
    }) == 3);
    CHECK(count == 3);
    trigger(vm, 2);
    CHECK(throws_seven(
        [&] { vm.poll_batch(eunomia::forever, [](const eunomia::records &) { throw own_exception{7}; }); }));
}

static void a_group_polls_many_vms() {
    eunomia::group group;
    eunomia::vm vms[2] = {running(), running()};
    int counts[2] = {};
    for (int i = 0; i < 2; i++)
        group.add(vms[i], &counts[i]);
    CHECK(FAILURE(group.add(vms[0])).status() == EUNOMIA_ERR_STATE);
    vms[1].var_set("burst", std::uint32_t{3});
    trigger(vms[0], 2);
    auto count = [](const event &event) { ++*static_cast<int *>(event.member()); };
    CHECK(group.poll(eunomia::forever, format::raw, count) == 5);
    CHECK(counts[0] == 2 && counts[1] == 3);
    trigger(vms[0], 1);
    CHECK(throws_seven([&] { group.poll(eunomia::forever, format::json, throw_seven); }));
    while (group.poll(0ms, format::raw, count) > 0)
        ;
    CHECK(counts[0] + counts[1] == 5 + 1 + 3 - 1);
    vms[0].stop();
    CHECK(FAILURE(group.poll(eunomia::forever, format::raw, count)).status() == EUNOMIA_ERR_STOPPED);
    CHECK(group.failed() == &counts[0]);
    group.remove(vms[1]);
    CHECK(FAILURE(group.remove(vms[1])).status() == EUNOMIA_ERR_NOT_FOUND);
    group.add(vms[0], &counts[0]);
    vms[0].close();
    trigger(vms[1], 1);
    CHECK(group.poll(0ms, format::raw, count) == 0 && group.epoll_fd() >= 0);
    group.stop();
    eunomia::group moved(std::move(group));
    CHECK(FAILURE(moved.poll(eunomia::forever, format::raw, count)).status() == EUNOMIA_ERR_STOPPED);
    CHECK(!moved.failed());
}

static void what_a_callback_throws_comes_out_of_the_call() {
    eunomia::vm vm = running();
    trigger(vm, 2);
    CHECK(throws_seven([&] { vm.poll(eunomia::forever, format::json, throw_seven); }));
    CHECK(throws_seven([&] { vm.run(format::raw, throw_seven); }));
    CHECK(throws_seven([&] { vm.map_each("pairs", format::text, throw_seven); }));
    CHECK(vm.poll(0ms, format::raw, [](const event &) {}) == 0); // each call consumed its event
    CHECK(vm.stats_get().events == 2);
    trigger(vm, 1);
    CHECK(vm.poll(eunomia::forever, format::raw, [](const event &) {}) == 1);
}

static void errors_of_the_vm_pass_through_a_callback() {
    eunomia::vm vm = running();
    trigger(vm, 1);
    eunomia::error error =
        FAILURE(vm.poll(eunomia::forever, format::raw, [&](const event &) { vm.var_get_json("nothing"); }));
    CHECK(error.status() == EUNOMIA_ERR_NOT_FOUND);
    CHECK(std::string(error.what()).find("nothing") != std::string::npos);
}

static void an_error_carries_everything() {
    eunomia::vm vm;
    vm.open_file(folder + "/rejected.json");
    eunomia::error error = FAILURE(vm.load());
    CHECK(error.status() == EUNOMIA_ERR_VERIFIER && error.sys() != 0);
    CHECK(std::string(error.what()).find("read_nowhere") != std::string::npos);
    CHECK(error.detail().find("R1 invalid mem access") != std::string::npos);
}

static void why_there_is_no_vm_is_told() {
    eunomia::options options;
    std::string logged;
    options.perf_pages = 3;
    options.log = [&](eunomia::log_level, std::string_view line) { logged = line; };
    eunomia::error error = FAILURE(eunomia::vm vm(options));
    CHECK(error.status() == EUNOMIA_ERR_INVAL);
    CHECK(std::string(error.what()).find("perf_pages") != std::string::npos && logged == error.what());
}

static void what_a_log_throws_is_dropped() {
    eunomia::options options;
    int lines = 0;
    options.log_level = eunomia::log_level::debug;
    options.log = [&](eunomia::log_level, std::string_view) {
        lines++;
        throw own_exception(1);
    };
    eunomia::vm vm(std::move(options));
    vm.open_file(folder + "/calls.json");
    vm.load();
    CHECK(lines > 0);
}

static void a_timeout_beyond_an_int_is_a_long_one() {
    eunomia::vm vm = running();
    vm.var_set("burst", std::uint32_t{1});
    std::thread later([] {
        std::this_thread::sleep_for(20ms);
        ::syscall(SYS_getpgid, 0);
    });
    CHECK(vm.poll(std::chrono::milliseconds(std::int64_t{1} << 32), format::raw, [](const event &) {}) == 1);
    later.join();
}

static void a_text_with_a_nul_is_refused_not_cut() {
    eunomia::vm vm = opened();
    const std::string number("1\0 2", 4);
    eunomia::error error = FAILURE(vm.var_set_json("burst", number));
    CHECK(error.status() == EUNOMIA_ERR_INVAL && vm.var_get_json("burst") == "1");
    CHECK(FAILURE(vm.var_set_json(std::string("burst\0x", 7), "2")).status() == EUNOMIA_ERR_INVAL);
    CHECK(FAILURE(vm.args_set({"host", std::string("--burst\0", 8), "2"})).status() == EUNOMIA_ERR_INVAL);
}

// ---- lifetime ----

static void a_vm_moves_while_it_runs() {
    eunomia::vm first = running();
    eunomia::vm second = std::move(first);
    CHECK(!first.is_open() && second.is_open());
    CHECK(FAILURE(first.map_count()).status() == EUNOMIA_ERR_INVAL);
    trigger(second, 1);
    CHECK(second.poll(eunomia::forever, format::raw, [](const event &) {}) == 1);
    second = opened(); // frees the vm that it had
    CHECK(FAILURE(second.detach()).status() == EUNOMIA_ERR_STATE);
}

static void a_closed_vm_refuses_every_call() {
    eunomia::vm vm = running();
    vm.close();
    vm.close();
    vm.stop();
    CHECK(!vm.is_open() && vm.raw() == nullptr);
    for (const eunomia::error &error :
         {FAILURE(vm.open_file("x")), FAILURE(vm.attach()), FAILURE(vm.var_get("x")), FAILURE(vm.describe()),
          FAILURE(vm.poll(eunomia::forever, format::raw, throw_seven)), FAILURE(vm.stats_get()),
          FAILURE(vm.epoll_fd()), FAILURE(vm.map_find("x")), FAILURE(vm.pause(true)),
          FAILURE(vm.wasm_run({"x"}, format::json, throw_seven))}) {
        CHECK(error.status() == EUNOMIA_ERR_INVAL && std::string(error.what()) == "the vm is closed");
    }
}

static void a_vm_closed_by_another_thread_ends_its_run() {
    for (int i = 0; i < repeats; i++) {
        eunomia::vm vm = running();
        std::atomic<bool> runs{false};
        trigger(vm, 1);
        std::thread runner([&] { vm.run(format::raw, [&](const event &) { runs = true; }); });
        while (!runs)
            std::this_thread::yield();
        vm.close();
        runner.join();
        CHECK(!vm.is_open());
    }
}

static void a_vm_is_closed_while_another_thread_calls_it_again_and_again() {
    for (int i = 0; i < repeats; i++) {
        eunomia::vm vm = opened();
        std::atomic<int> calls{0};
        int last = 0;
        std::thread caller([&] {
            for (; last == 0 || last == EUNOMIA_ERR_BUSY; calls++)
                try {
                    vm.stats_get();
                    vm.var_get("burst");
                } catch (const eunomia::error &error) {
                    last = error.status();
                }
        });
        while (calls < 10)
            std::this_thread::yield();
        vm.close();
        caller.join();
        CHECK(last == EUNOMIA_ERR_INVAL && !vm.is_open());
    }
}

static void a_second_thread_is_told_that_the_vm_is_busy() {
    eunomia::vm vm = running();
    std::atomic<bool> inside{false}, over{false};
    trigger(vm, 1);
    std::thread poller([&] {
        vm.poll(eunomia::forever, format::raw, [&](const event &) {
            inside = true;
            while (!over)
                std::this_thread::yield();
        });
    });
    while (!inside)
        std::this_thread::yield();
    CHECK(FAILURE(vm.map_count()).status() == EUNOMIA_ERR_BUSY);
    CHECK(vm.stats_get().polls > 0 && vm.epoll_fd() >= 0);
    over = true;
    poller.join();
}

static void a_callback_may_close_its_vm() {
    for (int i = 0; i < repeats; i++) {
        std::optional<eunomia::vm> vm = running();
        trigger(*vm, 3);
        int calls = 0;
        auto close = [&](const event &event) {
            calls++;
            vm.reset();
            CHECK(event.as<call_event>()->seq == 0);
            return flow::end;
        };
        CHECK(vm->poll(eunomia::forever, format::raw, close) == 1);
        CHECK(calls == 1 && !vm);
    }
}

static long descriptors() {
    std::filesystem::directory_iterator entries("/proc/self/fd");
    return std::distance(begin(entries), end(entries));
}

static long resident_kb() {
    std::ifstream status("/proc/self/status");
    std::string line;
    while (std::getline(status, line))
        if (line.rfind("VmRSS:", 0) == 0)
            return std::atol(line.c_str() + 6);
    die(__LINE__, "no VmRSS");
}

static void vms_come_and_go() {
    for (int i = 0; i < 10; i++)
        running();
    long before = descriptors(), kb = resident_kb();
    for (int i = 0; i < repeats; i++)
        running();
    CHECK(descriptors() == before);
    CHECK(is_sanitized || resident_kb() - kb <= 1024);
}

// ---- values ----

static void values_have_types() {
    eunomia::vm vm = running();
    vm.var_set("pair", pair{-5, 6});
    CHECK(vm.var_get<pair>("pair").left == -5 && vm.var_get_json("pair") == "{\"left\":-5,\"right\":6}");
    CHECK(FAILURE(vm.var_get<int>("pair")).status() == EUNOMIA_ERR_TYPE);
    CHECK(vm.var_get("text") == std::string("hello\0\0\0", 8));
    vm.map_set("counts", std::uint32_t{1}, std::uint64_t{10});
    CHECK(vm.map_get<std::uint64_t>("counts", std::uint32_t{1}) == 10);
    std::uint32_t key = 0;
    CHECK(vm.map_next("counts", nullptr, &key, sizeof(key)) && key == 1);
    CHECK(!vm.map_next("counts", &key, &key, sizeof(key)));
    vm.map_del("counts", key);
    CHECK(FAILURE(vm.map_get<std::uint64_t>("counts", key)).status() == EUNOMIA_ERR_NOT_FOUND);
    CHECK(FAILURE(vm.map_get<std::uint64_t>("counts", std::uint64_t{1})).status() == EUNOMIA_ERR_INVAL);
}

static void raw_events_are_structs() {
    eunomia::vm vm = running();
    struct longer {
        call_event event;
        char more;
    };
    std::uint32_t next = 0;
    trigger(vm, 3);
    vm.poll(eunomia::forever, format::raw, [&](const event &event) {
        CHECK(event.as<call_event>() && event.as<call_event>()->seq == next++);
        CHECK(event.as<longer>() == nullptr);
        CHECK(event.type().at(2).name == "value" && event.type().at(2).bit_offset == 64);
        CHECK(FAILURE(event.type().at(4)).status() == EUNOMIA_ERR_NOT_FOUND);
    });
    CHECK(next == 3);
}

static void batches_are_walked() {
    eunomia::vm vm = running();
    alignas(8) char room[4096];
    std::uint64_t sum = 0;
    trigger(vm, 3);
    eunomia::error error = FAILURE(vm.read(eunomia::forever, format::raw, room, 8));
    CHECK(error.status() == EUNOMIA_ERR_TOO_SMALL && error.need() == 40);
    int count = 0;
    while (count < 3) {
        eunomia::batch batch = vm.read(eunomia::forever, format::raw, room, sizeof(room));
        eunomia::each_record(room, batch, [&](const eunomia_record &head, const void *data, const void *) {
            CHECK(head.len == sizeof(call_event));
            sum += static_cast<const call_event *>(data)->value;
            count++;
        });
    }
    CHECK(sum == 7 + 8 + 9);
}

static std::string package_text() {
    std::ifstream file(folder + "/calls.json", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// The same package with another time-out in its metadata.
static std::string next_package() {
    std::string text = package_text(), meta = "\"meta\":{";
    return text.insert(text.find(meta) + meta.size(), "\"poll_timeout_ms\":77,");
}

static eunomia::vm replaceable() {
    eunomia::options options;
    options.flags = EUNOMIA_REPLACEABLE;
    eunomia::vm vm(options);
    vm.open_file(folder + "/calls.json");
    vm.var_set("target", static_cast<std::uint32_t>(getpid()));
    vm.attach();
    return vm;
}

static void a_prepared_version_runs_or_is_given_up() {
    eunomia::vm vm = replaceable();
    {
        eunomia::prepared given_up = vm.prepare(next_package());
        CHECK(given_up.report().find("swapped") != std::string::npos);
        CHECK(FAILURE(vm.replace(next_package())).status() == EUNOMIA_ERR_BUSY);
        eunomia::prepared moved = std::move(given_up);
    }
    auto keep_old = eunomia::replace_flag::keep_old;
    CHECK(vm.prepare(next_package(), keep_old).flip().find("\"grace_complete\":true") != std::string::npos);
    CHECK(std::string(FAILURE(vm.prepare(package_text())).what()).find("roll back") != std::string::npos);
    CHECK(vm.rollback().find("\"programs\":[]") != std::string::npos);
    CHECK(FAILURE(vm.commit()).status() == EUNOMIA_ERR_STATE);
    vm.replace(next_package(), keep_old);
    vm.commit();
    CHECK(vm.drained() && vm.stats_get().replaces == 3);
    eunomia::prepared late = vm.prepare(package_text());
    vm.close();
    CHECK(FAILURE(late.flip()).status() == EUNOMIA_ERR_INVAL);
}

// The polling thread does not hide the reason of a failure in another thread.
static void a_failed_replace_tells_why_while_another_thread_polls() {
    eunomia::vm vm = replaceable();
    std::atomic<bool> polls{false};
    std::thread thread([&] { vm.run(format::raw, [&](const event &) { polls = true; }); });
    while (!polls)
        ::syscall(SYS_getpgid, 0);
    eunomia::error error = FAILURE(vm.replace("garbage"));
    CHECK(std::string(error.what()).find("not a package") != std::string::npos);
    eunomia::prepared prepared = vm.prepare(next_package());
    error = FAILURE(vm.replace(next_package()));
    CHECK(error.status() == EUNOMIA_ERR_BUSY &&
          std::string(error.what()).find("being prepared") != std::string::npos);
    vm.stop();
    thread.join();
}

static void a_replace_returns_its_report() {
    eunomia::vm vm = running();
    std::string package = package_text();
    CHECK(vm.replace_report().empty());
    auto flags = eunomia::replace_flag::fresh_maps | eunomia::replace_flag::ordered;
    CHECK(vm.replace(package, flags).find("\"unchanged\":true") != std::string::npos);
    eunomia::error error = FAILURE(vm.replace("garbage"));
    CHECK(error.status() == EUNOMIA_ERR_PACKAGE &&
          std::string(error.what()).find("not a package") != std::string::npos);
    CHECK(vm.replace_report().find("\"error\":\"") != std::string::npos);
    trigger(vm, 1);
    vm.poll(eunomia::forever, format::raw,
            [&](const event &) { CHECK(FAILURE(vm.replace(package)).status() == EUNOMIA_ERR_BUSY); });
    CHECK(vm.stats_get().replaces == 0);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    folder = argv[1];
    repeats = std::atoi(argv[2]);
    CHECK(eunomia::version() == EUNOMIA_VERSION_NUM && (eunomia::kinds() & EUNOMIA_KIND_JSON));
    CHECK(std::string(eunomia::version_string()).find("libbpf") != std::string::npos);
    RUN(a_batch_has_all_records);
    RUN(a_group_polls_many_vms);
    RUN(what_a_callback_throws_comes_out_of_the_call);
    RUN(errors_of_the_vm_pass_through_a_callback);
    RUN(an_error_carries_everything);
    RUN(why_there_is_no_vm_is_told);
    RUN(what_a_log_throws_is_dropped);
    RUN(a_timeout_beyond_an_int_is_a_long_one);
    RUN(a_text_with_a_nul_is_refused_not_cut);
    RUN(a_vm_moves_while_it_runs);
    RUN(a_closed_vm_refuses_every_call);
    RUN(a_vm_closed_by_another_thread_ends_its_run);
    RUN(a_vm_is_closed_while_another_thread_calls_it_again_and_again);
    RUN(a_second_thread_is_told_that_the_vm_is_busy);
    RUN(a_callback_may_close_its_vm);
    RUN(vms_come_and_go);
    RUN(values_have_types);
    RUN(raw_events_are_structs);
    RUN(batches_are_walked);
    RUN(a_replace_returns_its_report);
    RUN(a_prepared_version_runs_or_is_given_up);
    RUN(a_failed_replace_tells_why_while_another_thread_polls);
    return 0;
}
