// Executes the steps of a scenario through eunomia.hpp; ../c has the code that C++ shares with C.
#include <eunomia.hpp>

#include "../c/runner.h"

#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include <poll.h>
#include <sys/syscall.h>

namespace {

// scenario->host
struct host {
    std::optional<eunomia::vm> vm, other;
    std::optional<eunomia::group> made_group;
    std::optional<eunomia::prepared> next;
    std::optional<eunomia::exported> exported;
    std::thread stopper;

    eunomia::group &group() {
        return made_group ? *made_group : made_group.emplace();
    }
    // Memory of outcome.text and of the messages of an error.
    std::string text, errmsg, errdetail, subject;
};

struct context {
    ::scenario &scenario;
    struct host &host;
    const ::args &args;
    outcome &out;

    std::string word(const char *key) const {
        return text_of(&args, key);
    }
    long long number(const char *key) const {
        return number_of(&args, key);
    }
    std::chrono::milliseconds timeout() const {
        return std::chrono::milliseconds(number("timeout_ms"));
    }
    std::string bytes(const char *key) const {
        unsigned char buffer[256];
        std::size_t count = bytes_of(&args, key, buffer, sizeof(buffer));
        return {reinterpret_cast<char *>(buffer), count};
    }
    std::vector<std::string> argv() const {
        const char *words[16];
        int count = words_of(&args, "argv", words, 16);
        return {words, words + count};
    }
    eunomia::format format() const {
        std::string format = word("format");
        return format == "raw"    ? eunomia::format::raw
               : format == "text" ? eunomia::format::text
                                  : eunomia::format::json;
    }
    eunomia::kind kinds() const {
        std::string kinds = word("kinds");
        return kinds == "json"   ? eunomia::kind::json
               : kinds == "wasm" ? eunomia::kind::wasm
                                 : eunomia::kind::any;
    }

    // Stores a returned string, or a line of a struct.
    int give(std::string text) const {
        host.text = std::move(text);
        out.text = host.text.c_str();
        return 0;
    }
    template <class Value> void put(const char *name, const Value &value) const {
        std::ostringstream line;
        line << name << '=' << value << '\n';
        std::strncat(out.info, line.str().c_str(), sizeof(out.info) - std::strlen(out.info) - 1);
    }
    int give_bytes(const std::string &bytes) const {
        out.byte_count = bytes.copy(reinterpret_cast<char *>(out.bytes), sizeof(out.bytes));
        return 0;
    }
};

std::string content(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// ---- events ----

template <std::size_t room> void show(bool is_raw, std::string_view bytes, char (&to)[room]) {
    if (is_raw)
        to_hex(bytes.data(), bytes.size(), to, room);
    else
        std::snprintf(to, room, "%.*s", static_cast<int>(bytes.size()), bytes.data());
}

void keep(const scenario &scenario, outcome &out, const eunomia::event &event) {
    if (out.event_count == MAX_EVENTS)
        return;
    seen &seen = out.events[out.event_count++];
    bool is_raw = event.format() == eunomia::format::raw;
    seen.kind = static_cast<std::uint32_t>(event.kind());
    seen.has_cpu = event.cpu() >= 0;
    auto since_boot = std::chrono::nanoseconds(event.time().time_since_epoch()).count();
    auto time_ns = static_cast<std::uint64_t>(since_boot);
    seen.has_time = time_ns >= scenario.began_ns && time_ns <= now_ns();
    const auto &vm = static_cast<const host *>(scenario.host)->vm;
    bool is_current = vm && event.member() == vm->raw();
    seen.vm = !event.member() ? "" : is_current ? "current" : "other";
    show(false, event.source(), seen.source);
    show(false, event.type().name(), seen.type);
    show(is_raw, event.text(), seen.data);
    show(is_raw, event.key(), seen.key);
}

// The exception of a failing callback.
struct failure {};

auto on_event(const context &c) {
    return [&c](const eunomia::event &event) {
        keep(c.scenario, c.out, event);
        if (c.out.event_count == 1)
            take_steps_inside(&c.scenario, &c.args);
        if (c.word("answer") == "fail")
            throw failure{};
        return c.word("answer") == "end" ? eunomia::flow::end : eunomia::flow::go_on;
    };
}

auto on_batch(const context &c) {
    return [&c, pass = on_event(c)](const eunomia::records &records) {
        eunomia::flow flow = eunomia::flow::go_on;
        for (std::size_t i = 0; i < records.count; i++) {
            eunomia_event event{};
            event.size = sizeof(event);
            event.kind = records.kind;
            event.format = EUNOMIA_FORMAT_RAW;
            event.source = records.source;
            event.data = records.spans[i].data;
            event.len = records.spans[i].len;
            event.key = records.key;
            event.key_len = records.key_len;
            event.type = records.type;
            event.cpu = records.cpu;
            event.time_ns = records.time_ns;
            flow = pass(eunomia::event(&event));
        }
        return flow;
    };
}

// ---- batches ----

int keep_batch(const context &c, const char *buffer, const eunomia::batch &batch) {
    c.give({buffer, batch.len});
    if (c.format() != eunomia::format::raw)
        return static_cast<int>(batch.count);
    eunomia::each_record(buffer, batch, [&](const eunomia_record &head, const void *data, const void *key) {
        seen &seen = c.out.events[c.out.event_count++] = {};
        seen.vm = "";
        to_hex(data, head.len, seen.data, sizeof(seen.data));
        to_hex(key, head.key_len, seen.key, sizeof(seen.key));
    });
    return static_cast<int>(batch.count);
}

template <class Read> int keep_batch(const context &c, Read &&read) {
    static std::uint64_t buffer[MAX_TEXT / 8];
    return keep_batch(c, reinterpret_cast<char *>(buffer),
                      read(buffer, static_cast<std::size_t>(c.number("room"))));
}

// ---- structs ----

int put_map(const context &c, const eunomia::map_info &map) {
    c.put("name", map.name);
    c.put("kind", map.kind);
    c.put("key_size", map.key_size);
    c.put("value_size", map.value_size);
    c.put("max_entries", map.max_entries);
    c.put("key_type", map.key_type.name());
    c.put("value_type", map.value_type.name());
    c.put("fd", map.fd);
    c.put("cpus", map.cpus);
    c.put("bytes", map.bytes);
    return 0;
}

int put_source(const context &c, const eunomia::source_info &source) {
    c.put("name", source.name);
    c.put("kind", source.kind);
    c.put("interval_ms", source.interval_ms);
    c.put("record_size", source.record_size);
    c.put("type", source.type.name());
    c.put("key_type", source.key_type.name());
    c.put("events", source.events);
    c.put("lost", source.lost);
    c.put("lost_known", source.lost_known);
    return 0;
}

int put_prog(const context &c, const eunomia::prog_info &prog) {
    c.put("name", prog.name);
    c.put("section", prog.section);
    c.put("target", prog.target);
    c.put("type", prog.type);
    c.put("flags", prog.flags);
    c.put("id", prog.id);
    return 0;
}

int put_stats(const context &c, const eunomia::stats &stats) {
    c.put("events", stats.events);
    c.put("bytes", stats.bytes);
    c.put("lost_kernel", stats.lost_kernel);
    c.put("lost_queue", stats.lost_queue);
    c.put("guest_dropped", stats.guest_dropped);
    c.put("malformed", stats.malformed);
    c.put("polls", stats.polls);
    c.put("replaces", stats.replaces);
    c.put("lost_known", stats.lost_known);
    return 0;
}

int put_fields(const context &c, eunomia::type type) {
    if (const std::string member = c.word("member"); !member.empty())
        for (std::uint32_t i = 0; i < type.count(); i++)
            if (type.at(i).name == member) {
                type = type.at(i).type;
                break;
            }
    c.put("fields", type.count());
    for (std::uint32_t i = 0; i < type.count(); i++) {
        const eunomia::field field = type.at(i);
        const std::string key = "fields." + std::to_string(i);
        c.put((key + ".name").c_str(), field.name);
        c.put((key + ".type").c_str(), field.type.name());
        c.put((key + ".kind").c_str(), field.type.kind());
        c.put((key + ".bit_offset").c_str(), field.bit_offset);
        c.put((key + ".bit_size").c_str(), field.bit_size);
        c.put((key + ".value").c_str(), field.value);
    }
    return 0;
}

// ---- the calls ----

int make(const context &c) {
    eunomia::options options;
    auto number = [&](const char *name) {
        return static_cast<std::uint32_t>(c.number((std::string("options.") + name).c_str()));
    };
    options.log = [&scenario = c.scenario](eunomia::log_level, std::string_view line) {
        std::strncat(scenario.log, (std::string(line) + "\n").c_str(),
                     sizeof(scenario.log) - std::strlen(scenario.log) - 1);
    };
    if (std::uint32_t level = number("log_level"))
        options.log_level = static_cast<eunomia::log_level>(level);
    options.perf_pages = number("perf_pages");
    options.poll_budget = number("poll_budget");
    options.wasm_stack = number("wasm_stack");
    options.wasm_heap = number("wasm_heap");
    options.wasm_memory = number("wasm_memory");
    options.wasm_budget_ms = number("wasm_budget_ms");
    options.max_kernel_memory = number("max_kernel_memory");
    if (number("raw_events"))
        options.flags |= EUNOMIA_WASM_RAW_EVENTS;
    if (number("stdio"))
        options.flags |= EUNOMIA_WASM_STDIO;
    if (number("replaceable"))
        options.flags |= EUNOMIA_REPLACEABLE;
    c.host.vm.emplace(std::move(options));
    return 0;
}

int open_object(eunomia::vm &vm, const context &c) {
    std::string elf = content(c.word("file")), meta = content(c.word("meta"));
    return static_cast<int>(vm.open_object(elf, meta.empty() ? nullptr : meta.c_str()));
}

int trigger(eunomia::vm &vm, const context &c) {
    if (find(&c.args, "events"))
        vm.var_set_json("burst", c.word("events"));
    ::syscall(SYS_getpgid, 0);
    return 0;
}

template <class Source> int readable(const Source &source, const context &c) {
    pollfd fd{source.epoll_fd(), POLLIN, 0};
    return ::poll(&fd, 1, static_cast<int>(c.number("timeout_ms")));
}

int stop_soon(eunomia::vm &vm, const context &c) {
    c.host.stopper = std::thread([&vm] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        vm.stop();
    });
    return 0;
}

int triggers_start(const context &c) {
    c.host.stopper = std::thread([count = c.number("count")] {
        for (auto left = count; left > 0; left--) {
            ::syscall(SYS_getpgid, 0);
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
    });
    return 0;
}

int triggers_end(eunomia::vm &vm, const context &c) {
    if (c.host.stopper.joinable())
        c.host.stopper.join();
    while (vm.poll(std::chrono::milliseconds(0), eunomia::format::raw, [](const eunomia::event &) {}) > 0)
        continue;
    const auto stats = vm.stats_get();
    return static_cast<int>(stats.events + stats.lost_kernel);
}

int map_get(eunomia::vm &vm, const context &c) {
    std::string key = c.bytes("key"), value(static_cast<std::size_t>(c.number("size")), '\0');
    vm.map_get(c.word("map"), key.data(), key.size(), value.data(), value.size());
    return c.give_bytes(value);
}

int map_set(eunomia::vm &vm, const context &c) {
    std::string key = c.bytes("key"), value = c.bytes("value");
    vm.map_set(c.word("map"), key.data(), key.size(), value.data(), value.size(),
               static_cast<std::uint64_t>(c.number("flags")));
    return 0;
}

int map_next(eunomia::vm &vm, const context &c) {
    std::string key = c.bytes("key"), next(static_cast<std::size_t>(c.number("size")), '\0');
    bool more =
        vm.map_next(c.word("map"), find(&c.args, "key") ? key.data() : nullptr, next.data(), next.size());
    return more ? c.give_bytes(next) : EUNOMIA_ERR_NOT_FOUND;
}

int prog_run(eunomia::vm &vm, const context &c) {
    std::string data = c.bytes("data"), ctx = c.bytes("ctx");
    std::string left(static_cast<std::size_t>(c.number("size")), '\0');
    eunomia::prog_input in;
    in.data = data.data();
    in.data_len = data.size();
    in.ctx = ctx.data();
    in.ctx_len = ctx.size();
    in.data_out = left.data();
    in.data_out_cap = left.size();
    auto run = vm.prog_run(c.word("prog"), in);
    c.give_bytes(left.substr(0, run.data_len));
    return static_cast<int>(run.return_value);
}

eunomia::replace_flag replace_flags(const context &c) {
    return static_cast<eunomia::replace_flag>(c.number("flags"));
}

int prepare(eunomia::vm &vm, const context &c) {
    c.host.next.emplace(vm.prepare(content(c.word("file")), replace_flags(c)));
    return c.give(c.host.next->report());
}

int export_fds(eunomia::vm &vm, const context &c) {
    auto flags = static_cast<eunomia::export_flag>(c.number("flags"));
    bool of_next = c.number("flags") & EUNOMIA_EXPORT_PREPARED;
    c.host.exported.emplace(of_next ? c.host.next->export_fds() : vm.export_fds(flags));
    return c.give(c.host.exported->description());
}

int give_up(const context &c) {
    c.host.next.reset();
    return 0;
}

// A call without a result.
#define DO(name, ...)                                                                                        \
    {                                                                                                        \
        name, [](eunomia::vm &vm, const context &c) {                                                        \
            (void)c;                                                                                         \
            vm.__VA_ARGS__;                                                                                  \
            return 0;                                                                                        \
        }                                                                                                    \
    }

// A call with a result.
#define GET(name, ...)                                                                                       \
    {                                                                                                        \
        name, [](eunomia::vm &vm, const context &c) {                                                        \
            (void)vm, (void)c;                                                                               \
            return static_cast<int>(__VA_ARGS__);                                                            \
        }                                                                                                    \
    }

const std::map<std::string, int (*)(eunomia::vm &, const context &)> calls = {
    GET("open", vm.open(content(c.word("file")), c.kinds())),
    GET("open_file", vm.open_file(c.word("path"), c.kinds())),
    GET("open_object", open_object(vm, c)),
    DO("load", load()),
    DO("attach", attach()),
    DO("detach", detach()),
    GET("replace", c.give(vm.replace(content(c.word("file")), replace_flags(c)))),
    GET("prepare", prepare(vm, c)),
    GET("flip", c.give(c.host.next->flip())),
    GET("abort", give_up(c)),
    DO("commit", commit()),
    GET("rollback", c.give(vm.rollback())),
    GET("export", export_fds(vm, c)),
    DO("import", import_fds(content(c.word("file")), *c.host.exported)),
    DO("adopt", adopt(content(c.word("file")), *c.host.exported)),
    GET("drained", vm.drained()),
    DO("stop", stop()),
    DO("var_set_json", var_set_json(c.word("name"), c.word("json"))),
    DO("var_set", var_set(c.word("name"), c.bytes("bytes").data(), c.bytes("bytes").size())),
    GET("var_get_json", c.give(vm.var_get_json(c.word("name")))),
    GET("var_get", c.give_bytes(vm.var_get(c.word("name")))),
    GET("args_set", vm.args_set(c.argv())),
    GET("args_help", c.give(vm.args_help())),
    GET("describe", c.give(vm.describe())),
    GET("poll", vm.poll(c.timeout(), c.format(), on_event(c))),
    GET("poll_batch", vm.poll_batch(c.timeout(), on_batch(c))),
    DO("run", run(c.format(), on_event(c))),
    GET("group_add", (c.host.group().add(vm, vm.raw()), 0)),
    GET("group_remove", (c.host.group().remove(vm), 0)),
    GET("group_poll", c.host.group().poll(c.timeout(), c.format(), on_event(c))),
    GET("group_stop", (c.host.group().stop(), 0)),
    GET("group_readable", readable(c.host.group(), c)),
    GET("group_failed", c.host.group().failed() == vm.raw()),
    GET("read",
        keep_batch(c, [&](auto at, auto room) { return vm.read(c.timeout(), c.format(), at, room); })),
    GET("iter_each", vm.iter_each(c.word("prog"), on_event(c))),
    DO("pause", pause(c.number("on") != 0)),
    GET("stats_get", put_stats(c, vm.stats_get())),
    DO("queue_start", queue_start(static_cast<std::size_t>(c.number("max_bytes")))),
    DO("queue_stop", queue_stop()),
    GET("map_count", vm.map_count()),
    GET("map_at", put_map(c, vm.map_at(static_cast<int>(c.number("index"))))),
    GET("map_find", put_map(c, vm.map_find(c.word("map")))),
    GET("map_get", map_get(vm, c)),
    GET("map_set", map_set(vm, c)),
    DO("map_del", map_del(c.word("map"), c.bytes("key").data(), c.bytes("key").size())),
    GET("map_next", map_next(vm, c)),
    GET("map_get_json", c.give(vm.map_get_json(c.word("map"), c.word("key")))),
    DO("map_set_json", map_set_json(c.word("map"), c.word("key"), c.word("value"),
                                    static_cast<std::uint64_t>(c.number("flags")))),
    DO("map_del_json", map_del_json(c.word("map"), c.word("key"))),
    GET("map_each", vm.map_each(c.word("map"), c.format(), on_event(c))),
    GET("map_dump",
        keep_batch(c, [&](auto at, auto room) { return vm.map_dump(c.word("map"), c.format(), at, room); })),
    DO("map_set_max_entries",
       map_set_max_entries(c.word("map"), static_cast<std::uint32_t>(c.number("count")))),
    GET("source_count", vm.source_count()),
    GET("source_at", put_source(c, vm.source_at(static_cast<int>(c.number("index"))))),
    GET("prog_count", vm.prog_count()),
    GET("prog_at", put_prog(c, vm.prog_at(static_cast<int>(c.number("index"))))),
    GET("prog_find", put_prog(c, vm.prog_find(c.word("prog")))),
    GET("prog_run", prog_run(vm, c)),
    DO("prog_set_autoload", prog_set_autoload(c.word("prog"), c.number("on") != 0)),
    DO("prog_set_target_json", prog_set_target_json(c.word("prog"), c.word("json"))),
    GET("wasm_run", (c.out.exit_code = vm.wasm_run(c.argv(), c.format(), on_event(c)), 0)),
    GET("fields", put_fields(c, vm.source_at(static_cast<int>(c.number("index"))).type)),
    GET("trigger", trigger(vm, c)),
    GET("readable", readable(vm, c)),
    GET("stop_soon", stop_soon(vm, c)),
    GET("triggers_start", triggers_start(c)),
    GET("triggers_end", triggers_end(vm, c)),
    GET("log", c.give(c.scenario.log)),
};

// Executes a call; -1 in `known` if there is no such call.
int dispatch(const context &c, bool &known) {
    const std::string name = c.word("call");
    if (name == "new")
        return make(c);
    if (name == "destroy") {
        c.host.vm.reset();
        return 0;
    }
    if (name == "swap") {
        std::swap(c.host.vm, c.host.other);
        return 0;
    }
    if (name == "status_name")
        return c.give(eunomia::status_name(static_cast<int>(c.number("number"))));
    auto call = calls.find(name);
    known = call != calls.end();
    return known ? call->second(c.host.vm.value(), c) : 0;
}

} // namespace

bool carry_out(scenario *scenario, const args *args, outcome *out) {
    if (!scenario->host)
        scenario->host = new host();
    context c{*scenario, *static_cast<host *>(scenario->host), *args, *out};
    bool known = true;
    try {
        out->status = dispatch(c, known);
    } catch (const eunomia::error &error) {
        c.host.errmsg = error.what();
        c.host.errdetail = error.detail();
        c.host.subject = error.subject_name();
        out->subject = static_cast<int>(error.subject());
        out->status = error.status();
        out->need = error.need();
        out->errsys = error.sys();
    } catch (const failure &) {
        out->status = EUNOMIA_ERR_CALLBACK; // the table's status for an exception in a callback
    }
    out->status_name = eunomia::status_name(out->status);
    out->errmsg = c.host.errmsg.c_str();
    out->errdetail = c.host.errdetail.c_str();
    out->subject_name = c.host.subject.c_str();
    return known;
}

void clean_up(scenario *scenario) {
    host *host = static_cast<struct host *>(scenario->host);
    if (host && host->stopper.joinable())
        host->stopper.join();
    delete host;
    scenario->host = nullptr;
}
