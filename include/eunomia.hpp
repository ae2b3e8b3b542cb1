// eunomia.hpp: libeunomia for C++17, header-only, on top of eunomia.h. SPDX-License-Identifier: MIT
//
//   eunomia::vm vm;
//   vm.open_file("package.json");
//   vm.attach();
//   vm.run(eunomia::format::json, [](const eunomia::event &event) { std::cout << event.text() << '\n'; });
//
// This header has everything that eunomia.h has, under the same names and with the same rules. eunomia.h
// documents the functions; the comments here only describe the differences:
//   - A failed call throws eunomia::error. Output parameters are return values.
//   - Strings and structs are copies. An event is valid until the callback returns, a type until the vm is
//     destroyed.
//   - A callback takes a `const event &` and returns nothing or a flow. It may throw. The exception ends the
//     call that delivers the event (poll, run, ...), and that call rethrows it.
//   - A vm may be closed at any time, also from another thread or a callback. A call in progress is stopped,
//     and the package is unloaded when that call returns. A vm may be destroyed or moved during a call, but
//     not while another thread begins one.

#ifndef EUNOMIA_HPP
#define EUNOMIA_HPP

#include <eunomia.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <unistd.h>

namespace eunomia {

// ---- Version ----

// Returns the EUNOMIA_VERSION_NUM of the library in use.
inline std::uint32_t version() noexcept {
    return eunomia_version();
}

// Returns a human-readable line with the versions of the library and of what it contains.
inline const char *version_string() noexcept {
    return eunomia_version_string();
}

// Returns a bitmask of the eunomia_kind values that this build of the library can open.
inline std::uint32_t kinds() noexcept {
    return eunomia_kinds();
}

// Returns the name of a status, such as "EUNOMIA_ERR_TYPE".
inline const char *status_name(int status) noexcept {
    return eunomia_status_name(status);
}

// ---- Errors ----

// See eunomia_subject.
enum class subject : int {
    none = EUNOMIA_SUBJECT_NONE,
    variable = EUNOMIA_SUBJECT_VARIABLE,
    map = EUNOMIA_SUBJECT_MAP,
    program = EUNOMIA_SUBJECT_PROGRAM,
    metadata = EUNOMIA_SUBJECT_METADATA,
    file = EUNOMIA_SUBJECT_FILE
};

// A failed call. what() is one line with the object, the offending value and a hint.
class error : public std::runtime_error {
  public:
    error(int status, const std::string &message, std::string detail = {}, int sys = 0, std::size_t need = 0,
          eunomia::subject subject = eunomia::subject::none, std::string name = {})
        : std::runtime_error(message), status_(status), sys_(sys), need_(need), detail_(std::move(detail)),
          subject_(subject), name_(std::move(name)) {}

    // A negative eunomia_status.
    int status() const noexcept {
        return status_;
    }

    // The long message, such as the verifier's log; "" if there is none.
    const std::string &detail() const noexcept {
        return detail_;
    }

    // The errno that caused the failure; 0 if there is none.
    int sys() const noexcept {
        return sys_;
    }

    // The required bytes with EUNOMIA_ERR_TOO_SMALL, otherwise 0.
    std::size_t need() const noexcept {
        return need_;
    }

    // The thing that the call was about.
    eunomia::subject subject() const noexcept {
        return subject_;
    }

    // The name or path of the subject; "" if there is none.
    const std::string &subject_name() const noexcept {
        return name_;
    }

  private:
    int status_, sys_;
    std::size_t need_;
    std::string detail_;
    eunomia::subject subject_;
    std::string name_;
};

// ---- Constants ----

// See eunomia_kind.
enum class kind : std::uint32_t {
    json = EUNOMIA_KIND_JSON,
    wasm = EUNOMIA_KIND_WASM,
    any = EUNOMIA_KIND_ANY
};

// See eunomia_format.
enum class format : std::uint32_t {
    raw = EUNOMIA_FORMAT_RAW,
    json = EUNOMIA_FORMAT_JSON,
    text = EUNOMIA_FORMAT_TEXT
};

// See eunomia_event_kind.
enum class event_kind : std::uint32_t {
    sample = EUNOMIA_EVENT_SAMPLE,
    lost = EUNOMIA_EVENT_LOST,
    map_entry = EUNOMIA_EVENT_MAP_ENTRY,
    header = EUNOMIA_EVENT_HEADER,
    output = EUNOMIA_EVENT_OUTPUT,
    round = EUNOMIA_EVENT_ROUND
};

// See eunomia_log_level.
enum class log_level : std::uint32_t {
    error = EUNOMIA_LOG_ERROR,
    warn = EUNOMIA_LOG_WARN,
    info = EUNOMIA_LOG_INFO,
    debug = EUNOMIA_LOG_DEBUG
};

// The result of a callback: continue, or end the call that delivers the event.
enum class flow { go_on = 0, end = 1 };

// A timeout without limit.
inline constexpr std::chrono::milliseconds forever{-1};

// ---- Types of raw bytes ----

struct field;

// A type, valid until its vm is destroyed. Empty if the package does not specify it.
class type {
  public:
    type(const eunomia_type *raw = nullptr) noexcept : raw_(raw) {}

    // Whether the package specifies the type.
    explicit operator bool() const noexcept {
        return raw_ != nullptr;
    }

    // The name in C; "" if empty.
    std::string_view name() const noexcept {
        return eunomia_type_name(raw_);
    }

    // An eunomia_type_kind; 0 if empty.
    std::uint32_t kind() const noexcept {
        return eunomia_type_kind_of(raw_);
    }

    // The size in bytes.
    std::size_t size() const noexcept {
        return eunomia_type_size(raw_);
    }

    // The number of members, elements or constants.
    std::uint32_t count() const noexcept {
        return eunomia_type_count(raw_);
    }

    // The member, element or constant at an index below count().
    inline field at(std::uint32_t index) const;

    // For direct calls of eunomia.h.
    const eunomia_type *raw() const noexcept {
        return raw_;
    }

  private:
    const eunomia_type *raw_;
};

// See eunomia_field. The name is valid as long as the type.
struct field {
    std::string_view name;
    eunomia::type type;
    std::uint32_t bit_offset, bit_size;
    std::int64_t value;
};

inline field type::at(std::uint32_t index) const {
    eunomia_field raw{};
    raw.size = sizeof(raw);
    if (int status = eunomia_type_field(raw_, index, &raw); status < 0)
        throw error(status, "type \"" + std::string(name()) + "\" has no member " + std::to_string(index));
    return {raw.name, raw.type, raw.bit_offset, raw.bit_size, raw.value};
}

// ---- Events ----

// An event, valid until the callback returns.
class event {
  public:
    explicit event(const eunomia_event *raw) noexcept : raw_(raw) {}

    event_kind kind() const noexcept {
        return static_cast<event_kind>(raw_->kind);
    }

    // The format of data and key.
    eunomia::format format() const noexcept {
        return static_cast<eunomia::format>(raw_->format);
    }

    // Name of the map, or of the iterator program, that the event came from.
    std::string_view source() const noexcept {
        return raw_->source;
    }

    // Raw bytes, 8-byte aligned, or a NUL-terminated string.
    const void *data() const noexcept {
        return raw_->data;
    }

    // Bytes of data.
    std::size_t size() const noexcept {
        return raw_->len;
    }

    // Data as a string: text, or raw bytes.
    std::string_view text() const noexcept {
        return {static_cast<const char *>(raw_->data), raw_->len};
    }

    // Key of a map entry, in the same format as data. Otherwise empty.
    std::string_view key() const noexcept {
        return {static_cast<const char *>(raw_->key), raw_->key_len};
    }

    // Raw data as a T; nullptr if data is shorter.
    template <class T> const T *as() const noexcept {
        static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 8,
                      "T must be a struct that a kernel can write");
        return raw_->len >= sizeof(T) ? static_cast<const T *>(raw_->data) : nullptr;
    }

    // Type of raw data.
    eunomia::type type() const noexcept {
        return raw_->type;
    }

    // Number of dropped records (event_kind::lost only).
    std::uint64_t lost() const noexcept {
        return raw_->lost;
    }

    // CPU of a perf buffer's record; -1: unknown.
    int cpu() const noexcept {
        return raw_->cpu;
    }

    // The time when the event was read. The clock is read once per batch; see eunomia_event.time_ns.
    std::chrono::steady_clock::time_point time() const noexcept {
        auto since_boot = std::chrono::nanoseconds(raw_->time_ns);
        return std::chrono::steady_clock::time_point(since_boot);
    }

    // The pointer given to group::add; NULL unless a group delivers the event.
    void *member() const noexcept {
        return raw_->member;
    }

    // For direct calls of eunomia.h.
    const eunomia_event *raw() const noexcept {
        return raw_;
    }

  private:
    const eunomia_event *raw_;
};

// ---- Structs ----

// See eunomia_options. A zero or empty value selects the default.
struct options {
    // Receives each line of the log, in any thread that is inside a call. It must not call the vm.
    // Exceptions are ignored.
    std::function<void(eunomia::log_level, std::string_view)> log = nullptr;
    eunomia::log_level log_level = eunomia::log_level::warn;
    // Bitmask of eunomia_option_flag.
    std::uint32_t flags = 0;
    std::string btf_path{}, pin_path{};
    std::uint32_t perf_pages = 0, poll_budget = 0;
    std::uint32_t wasm_stack = 0, wasm_heap = 0, wasm_memory = 0, wasm_budget_ms = 0;
    std::vector<std::string> wasm_dirs{};
    std::uint64_t max_kernel_memory = 0;
};

// See eunomia_stats.
using stats = eunomia_stats;

// See eunomia_batch.
using batch = eunomia_batch;

// See eunomia_records.
using records = eunomia_records;

// See eunomia_map_info.
struct map_info {
    std::string name;
    std::uint32_t kind, key_size, value_size, max_entries;
    type key_type, value_type;
    int fd;
    std::uint32_t cpus;
    std::uint64_t bytes;
};

// See eunomia_source_info.
struct source_info {
    std::string name;
    std::uint32_t kind, interval_ms, record_size;
    eunomia::type type, key_type;
    std::uint64_t events, lost;
    std::uint32_t lost_known;
};

// See eunomia_prog_info.
struct prog_info {
    std::string name, section, target;
    std::uint32_t type, flags, id;
    std::uint64_t run_count, run_ns;
};

// See eunomia_prog_input. The caller keeps the ownership of the buffers.
struct prog_input {
    const void *data = nullptr;
    std::size_t data_len = 0;
    const void *ctx = nullptr;
    std::size_t ctx_len = 0;
    void *data_out = nullptr;
    std::size_t data_out_cap = 0;
    void *ctx_out = nullptr;
    std::size_t ctx_out_cap = 0;
    std::uint32_t repeat = 0;
};

// See eunomia_prog_result.
struct prog_result {
    std::uint32_t return_value, duration_ns;
    std::size_t data_len, ctx_len;
};

// See eunomia_replace_flag. Flags can be joined with |.
enum class replace_flag : std::uint32_t {
    none = 0,
    fresh_maps = EUNOMIA_REPLACE_FRESH_MAPS,
    strict_maps = EUNOMIA_REPLACE_STRICT_MAPS,
    fresh_vars = EUNOMIA_REPLACE_FRESH_VARS,
    ordered = EUNOMIA_REPLACE_ORDERED,
    keep_old = EUNOMIA_REPLACE_KEEP_OLD,
    migrate_maps = EUNOMIA_REPLACE_MIGRATE_MAPS,
    carry_data = EUNOMIA_REPLACE_CARRY_DATA,
    allow_overlap = EUNOMIA_REPLACE_ALLOW_OVERLAP,
    allow_gap = EUNOMIA_REPLACE_ALLOW_GAP,
};

constexpr replace_flag operator|(replace_flag a, replace_flag b) noexcept {
    return static_cast<replace_flag>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}

// See eunomia_export_flag. Flags can be joined with |.
enum class export_flag : std::uint32_t {
    none = 0,
    prepared = EUNOMIA_EXPORT_PREPARED,
    all = EUNOMIA_EXPORT_ALL,
};

constexpr export_flag operator|(export_flag a, export_flag b) noexcept {
    return static_cast<export_flag>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}

// The descriptors of a package for another process, and their description; see eunomia_exported. It can be
// moved but not copied. Its destructor closes the descriptors.
class exported {
  public:
    // Takes over descriptors that another process has sent, in the order of the description.
    exported(std::string description, std::vector<int> fds)
        : description_(std::move(description)), fds_(std::move(fds)) {}

    exported(exported &&other) noexcept
        : description_(std::move(other.description_)), fds_(std::exchange(other.fds_, {})) {}
    exported &operator=(exported &&other) noexcept {
        std::swap(description_, other.description_);
        std::swap(fds_, other.fds_);
        return *this;
    }
    ~exported() {
        for (int fd : fds_)
            ::close(fd);
    }

    const std::string &description() const noexcept {
        return description_;
    }

    const std::vector<int> &fds() const noexcept {
        return fds_;
    }

  private:
    std::string description_;
    std::vector<int> fds_;
};

// Calls fn(const eunomia_record &header, const void *data, const void *key) for each record of a raw batch.
template <class Fn> void each_record(const void *buffer, const batch &stored, Fn &&fn) {
    auto at = static_cast<const char *>(buffer);
    const char *end = at + stored.len;
    for (const eunomia_record *header; at < end; at += header->size) {
        header = reinterpret_cast<const eunomia_record *>(at);
        const char *data = at + sizeof(*header);
        const char *key = data + (header->len + 7) / 8 * 8;
        fn(*header, static_cast<const void *>(data), static_cast<const void *>(key));
    }
}

namespace detail {

// Whether the bytes of a T are its value, and not a pointer to the value.
template <class T>
inline constexpr bool is_plain =
    std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> && !std::is_same_v<T, std::string_view>;

// A vm of the library and what it refers to. After close, the last call that ends frees it.
class state {
  public:
    eunomia_vm *raw = nullptr;
    std::function<void(log_level, std::string_view)> log{};

    state() = default;
    state(const state &) = delete;
    state &operator=(const state &) = delete;

    // Returns false if the vm is closed. Lock-free, so that signal handlers can call it.
    bool enter() noexcept {
        unsigned seen = uses_;
        do {
            if (seen & closed_bit)
                return false;
        } while (!uses_.compare_exchange_weak(seen, seen + one_use));
        return true;
    }

    void leave() noexcept {
        if (uses_.fetch_sub(one_use) == one_use + closed_bit)
            eunomia_destroy(raw);
    }

    void close() noexcept {
        if (!enter())
            return;
        if (uses_.fetch_or(closed_bit) > one_use)
            eunomia_stop(raw);
        leave();
    }

    bool is_closed() const noexcept {
        return uses_ & closed_bit;
    }

    static void on_log(void *arg, std::uint32_t level, const char *text) noexcept {
        try {
            static_cast<state *>(arg)->log(static_cast<log_level>(level), text);
        } catch (...) { // cannot be reported to anyone
        }
    }

  private:
    static constexpr unsigned closed_bit = 1, one_use = 2;
    std::atomic<unsigned> uses_{0};
};

// A call on a vm. It keeps the vm alive until the call ends.
class use {
  public:
    explicit use(std::shared_ptr<state> vm) : vm_(std::move(vm)) {
        if (!vm_ || !vm_->enter())
            throw error(EUNOMIA_ERR_INVAL, "the vm is closed");
    }
    use(const use &) = delete;
    use &operator=(const use &) = delete;
    ~use() {
        vm_->leave();
    }

    eunomia_vm *raw() const noexcept {
        return vm_->raw;
    }

  private:
    std::shared_ptr<state> vm_;
};

// A callback called through C. Its exception is kept and rethrown by the call that delivers the event.
template <class Fn, class Raw, class View> struct callback {
    using result = std::invoke_result_t<Fn &, const View &>;
    static_assert(std::is_void_v<result> || std::is_same_v<result, flow>,
                  "a callback must return nothing or an eunomia::flow");

    Fn &fn;
    std::exception_ptr thrown{};

    static int on_event(void *arg, const Raw *raw) noexcept {
        auto &self = *static_cast<callback *>(arg);
        try {
            if constexpr (std::is_void_v<result>) {
                self.fn(view(raw));
                return 0;
            } else {
                return static_cast<int>(self.fn(view(raw)));
            }
        } catch (...) {
            self.thrown = std::current_exception();
            return -1;
        }
    }

    static decltype(auto) view(const Raw *raw) {
        if constexpr (std::is_same_v<Raw, View>)
            return static_cast<const View &>(*raw);
        else
            return View(raw);
    }
};

} // namespace detail

// ---- The vm ----

class prepared;

// A handle to one package. It can be moved but not copied. One thread at a time may use it; a second one
// gets EUNOMIA_ERR_BUSY. Any thread may call stop, pause, stats_get, epoll_fd and close, and the functions
// for versions: replace, prepare, commit, rollback, drained and adopt.
class vm {
  public:
    explicit vm(options options = {}) : state_(std::make_shared<detail::state>()) {
        check_version();
        std::vector<const char *> dirs;
        eunomia_options raw{};
        raw.size = sizeof(raw);
        raw.log_level = static_cast<std::uint32_t>(options.log_level);
        raw.flags = options.flags;
        raw.btf_path = options.btf_path.empty() ? nullptr : c_text(options.btf_path);
        raw.pin_path = options.pin_path.empty() ? nullptr : c_text(options.pin_path);
        raw.perf_pages = options.perf_pages;
        raw.poll_budget = options.poll_budget;
        raw.wasm_stack = options.wasm_stack;
        raw.wasm_heap = options.wasm_heap;
        raw.wasm_memory = options.wasm_memory;
        raw.wasm_budget_ms = options.wasm_budget_ms;
        raw.wasm_dirs = pointers(options.wasm_dirs, dirs);
        raw.max_kernel_memory = options.max_kernel_memory;
        create(raw, std::move(options.log));
    }

    vm(vm &&) noexcept = default;
    vm &operator=(vm &&other) noexcept {
        close();
        state_ = std::move(other.state_);
        return *this;
    }
    ~vm() {
        close();
    }

    // Unloads the package and frees the vm. Later calls except close fail with EUNOMIA_ERR_INVAL. A call in
    // progress is stopped, and the vm is freed when that call returns.
    void close() noexcept {
        if (state_)
            state_->close();
    }

    // Whether the vm is neither closed nor moved from.
    bool is_open() const noexcept {
        return state_ && !state_->is_closed();
    }

    // For calls of eunomia.h; NULL once closed.
    eunomia_vm *raw() const noexcept {
        return is_open() ? state_->raw : nullptr;
    }

    // -- Life cycle --

    // Opens a package from memory and returns its kind.
    kind open(std::string_view data, kind kinds = kind::any) {
        return opened([&](auto raw) { return eunomia_open(raw, data.data(), data.size(), number(kinds)); });
    }

    kind open_file(const std::string &path, kind kinds = kind::any) {
        return opened([&](auto raw) { return eunomia_open_file(raw, c_text(path), number(kinds)); });
    }

    // Opens a BPF object, with its metadata or nullptr.
    kind open_object(std::string_view elf, const char *meta_json = nullptr) {
        return opened([&](auto raw) { return eunomia_open_object(raw, elf.data(), elf.size(), meta_json); });
    }

    void load() {
        call(eunomia_load);
    }

    void attach() {
        call(eunomia_attach);
    }

    void detach() {
        call(eunomia_detach);
    }

    // Replaces the running package with a new version while events flow. Returns the report; see
    // eunomia_replace_report. Any thread, also while another one polls.
    std::string replace(std::string_view data, replace_flag flags = replace_flag::none) {
        auto options = replace_options(flags);
        auto use = entered();
        checked_aside(use.raw(), eunomia_replace(use.raw(), data.data(), data.size(), &options));
        return replace_report();
    }

    // Loads a new version, which does not run before prepared::flip. Any thread; see eunomia_prepare.
    prepared prepare(std::string_view data, replace_flag flags = replace_flag::none);

    // Closes the old version that replace_flag::keep_old has kept, or that adopt has left. Any thread.
    void commit() {
        call_aside(eunomia_commit);
    }

    // Switches back to that old version, and returns the report. Any thread.
    std::string rollback() {
        call_aside(eunomia_rollback);
        return replace_report();
    }

    // Whether all events of older versions have been delivered. Any thread.
    bool drained() const {
        return call(eunomia_drained) == 1;
    }

    // Copies descriptors for a process that reads the events. This vm stops reading; see eunomia_export.
    exported export_fds(export_flag flags = export_flag::none) {
        return exported_of(entered(), flags);
    }

    // Makes this empty vm the reader of a package that another process has loaded; see eunomia_import.
    void import_fds(std::string_view data, const exported &from) {
        auto raw_from = raw_of(from);
        call([&](auto raw) { return eunomia_import(raw, data.data(), data.size(), &raw_from); });
    }

    // Makes this reader read the next version, too. Any thread; see eunomia_adopt.
    void adopt(std::string_view data, const exported &from) {
        auto raw_from = raw_of(from);
        call_aside([&](auto raw) { return eunomia_adopt(raw, data.data(), data.size(), &raw_from); });
    }

    // Returns the report of the last replace, also of a failed one; "" before the first.
    std::string replace_report() const {
        return report_of(entered());
    }

    // -- Global variables --

    void var_set_json(const std::string &name, const std::string &json) {
        call([&](auto raw) { return eunomia_var_set_json(raw, c_text(name), c_text(json)); });
    }

    std::string var_get_json(const std::string &name) const {
        return text([&](auto raw, auto out) { return eunomia_var_get_json(raw, c_text(name), out); });
    }

    void var_set(const std::string &name, const void *data, std::size_t size) {
        call([&](auto raw) { return eunomia_var_set(raw, c_text(name), data, size); });
    }

    // Sets a variable whose size is that of T.
    template <class T> void var_set(const std::string &name, const T &value) {
        static_assert(detail::is_plain<T>, "not plain bytes");
        var_set(name, &value, sizeof(value));
    }

    // Returns the bytes of a variable.
    std::string var_get(const std::string &name) const {
        std::size_t size = 0;
        std::string value;
        call([&](auto raw) {
            int status = eunomia_var_get(raw, c_text(name), nullptr, &size);
            if (status != EUNOMIA_ERR_TOO_SMALL)
                return status;
            value.resize(size);
            return eunomia_var_get(raw, c_text(name), value.data(), &size);
        });
        return value;
    }

    // Returns the value of a variable whose size is that of T.
    template <class T> T var_get(const std::string &name) const {
        static_assert(detail::is_plain<T>, "not plain bytes");
        std::string bytes = var_get(name);
        T value;
        if (bytes.size() != sizeof(value))
            throw error(EUNOMIA_ERR_TYPE, "variable \"" + name + "\" has " + std::to_string(bytes.size()) +
                                              " bytes, not " + std::to_string(sizeof(value)));
        std::memcpy(&value, bytes.data(), sizeof(value));
        return value;
    }

    // -- The command line that a package describes --

    // Sets variables. Returns true if help or the version was requested; args_help then returns that text.
    bool args_set(const std::vector<std::string> &argv) {
        std::vector<const char *> raw_argv;
        pointers(argv, raw_argv);
        return call([&](auto raw) { return eunomia_args_set(raw, length(argv), raw_argv.data()); }) == 1;
    }

    std::string args_help() const {
        return text(eunomia_args_help);
    }

    // -- Events --

    // Returns the number of events; 0 after the timeout. A stop throws an error with EUNOMIA_ERR_STOPPED.
    template <class Fn> int poll(std::chrono::milliseconds timeout, format format, Fn &&fn) {
        return deliver(fn, [&](auto raw, auto on_event, void *arg) {
            return eunomia_poll(raw, number(timeout), number(format), on_event, arg);
        });
    }

    // Calls fn(const eunomia::records &) for each batch of raw records, which are not copied. Returns the
    // number of events. See eunomia_poll_batch.
    template <class Fn> int poll_batch(std::chrono::milliseconds timeout, Fn &&fn) {
        return deliver<eunomia_records, records>(fn, [&](auto raw, auto on_batch, void *arg) {
            return eunomia_poll_batch(raw, number(timeout), on_batch, arg);
        });
    }

    // Polls until stop is called or fn returns flow::end.
    template <class Fn> void run(format format, Fn &&fn) {
        deliver(fn, [&](auto raw, auto on_event, void *arg) {
            return eunomia_run(raw, number(format), on_event, arg);
        });
    }

    int epoll_fd() const {
        return call(eunomia_epoll_fd);
    }

    // Any thread, any time, and in signal handlers.
    void stop() const noexcept {
        if (state_ && state_->enter()) {
            eunomia_stop(state_->raw);
            state_->leave();
        }
    }

    void pause(bool on) const {
        call([&](auto raw) { return eunomia_pause(raw, on); });
    }

    stats stats_get() const {
        return struct_of<stats>([&](auto raw, auto out) { return eunomia_stats_get(raw, out); });
    }

    // Stores records in a buffer, which must be 8-byte aligned for raw records; see each_record.
    batch read(std::chrono::milliseconds timeout, format format, void *buffer, std::size_t size) {
        return batch_of([&](auto raw, auto out) {
            return eunomia_read(raw, number(timeout), number(format), buffer, size, out);
        });
    }

    void queue_start(std::size_t max_bytes) {
        call([&](auto raw) { return eunomia_queue_start(raw, max_bytes); });
    }

    void queue_stop() {
        call(eunomia_queue_stop);
    }

    template <class Fn> int iter_each(const std::string &prog, Fn &&fn) {
        return deliver(fn, [&](auto raw, auto on_event, void *arg) {
            return eunomia_iter_each(raw, c_text(prog), on_event, arg);
        });
    }

    // -- Maps --

    int map_count() const {
        return call(eunomia_map_count);
    }

    map_info map_at(int index) const {
        return made_of<map_info, eunomia_map_info>(
            [&](auto raw, auto out) { return eunomia_map_at(raw, index, out); }, map_of);
    }

    map_info map_find(const std::string &name) const {
        return made_of<map_info, eunomia_map_info>(
            [&](auto raw, auto out) { return eunomia_map_find(raw, c_text(name), out); }, map_of);
    }

    void map_set_max_entries(const std::string &map, std::uint32_t count) {
        call([&](auto raw) { return eunomia_map_set_max_entries(raw, c_text(map), count); });
    }

    void map_get(const std::string &map, const void *key, std::size_t klen, void *val,
                 std::size_t vlen) const {
        call([&](auto raw) { return eunomia_map_get(raw, c_text(map), key, klen, val, vlen); });
    }

    // Returns the value of a key. V and K must have the sizes of the map's values and keys.
    template <class V, class K> V map_get(const std::string &map, const K &key) const {
        static_assert(detail::is_plain<V> && detail::is_plain<K>, "not plain bytes");
        V value;
        map_get(map, &key, sizeof(key), &value, sizeof(value));
        return value;
    }

    void map_set(const std::string &map, const void *key, std::size_t klen, const void *val, std::size_t vlen,
                 std::uint64_t flags = 0) {
        call([&](auto raw) { return eunomia_map_set(raw, c_text(map), key, klen, val, vlen, flags); });
    }

    template <class K, class V>
    void map_set(const std::string &map, const K &key, const V &value, std::uint64_t flags = 0) {
        static_assert(detail::is_plain<V> && detail::is_plain<K>, "not plain bytes");
        map_set(map, &key, sizeof(key), &value, sizeof(value), flags);
    }

    void map_del(const std::string &map, const void *key, std::size_t klen) {
        call([&](auto raw) { return eunomia_map_del(raw, c_text(map), key, klen); });
    }

    template <class K> void map_del(const std::string &map, const K &key) {
        static_assert(detail::is_plain<K>, "not plain bytes");
        map_del(map, &key, sizeof(key));
    }

    // Copies the key that follows `key` (nullptr: the first key) to `next`. Returns false after the last key.
    bool map_next(const std::string &map, const void *key, void *next, std::size_t klen) const {
        return call([&](auto raw) {
                   int status = eunomia_map_next(raw, c_text(map), key, next, klen);
                   return status == EUNOMIA_ERR_NOT_FOUND ? 1 : status;
               }) == 0;
    }

    std::string map_get_json(const std::string &map, const std::string &key) const {
        return text(
            [&](auto raw, auto out) { return eunomia_map_get_json(raw, c_text(map), c_text(key), out); });
    }

    void map_set_json(const std::string &map, const std::string &key, const std::string &value,
                      std::uint64_t flags = 0) {
        call([&](auto raw) {
            return eunomia_map_set_json(raw, c_text(map), c_text(key), c_text(value), flags);
        });
    }

    void map_del_json(const std::string &map, const std::string &key) {
        call([&](auto raw) { return eunomia_map_del_json(raw, c_text(map), c_text(key)); });
    }

    // Calls fn for each entry and returns the number of entries.
    template <class Fn> int map_each(const std::string &map, format format, Fn &&fn) {
        return deliver(fn, [&](auto raw, auto on_event, void *arg) {
            return eunomia_map_each(raw, c_text(map), number(format), on_event, arg);
        });
    }

    // Stores all entries in a buffer, as read does.
    batch map_dump(const std::string &map, format format, void *buffer, std::size_t size) const {
        return batch_of([&](auto raw, auto out) {
            return eunomia_map_dump(raw, c_text(map), number(format), buffer, size, out);
        });
    }

    // -- Contents of a package --

    std::string describe() const {
        return text([](auto raw, auto out) { return eunomia_describe(raw, out, nullptr); });
    }

    int source_count() const {
        return call(eunomia_source_count);
    }

    source_info source_at(int index) const {
        return made_of<source_info, eunomia_source_info>(
            [&](auto raw, auto out) { return eunomia_source_at(raw, index, out); }, source_of);
    }

    int prog_count() const {
        return call(eunomia_prog_count);
    }

    prog_info prog_at(int index) const {
        return made_of<prog_info, eunomia_prog_info>(
            [&](auto raw, auto out) { return eunomia_prog_at(raw, index, out); }, prog_of);
    }

    prog_info prog_find(const std::string &name) const {
        return made_of<prog_info, eunomia_prog_info>(
            [&](auto raw, auto out) { return eunomia_prog_find(raw, c_text(name), out); }, prog_of);
    }

    void prog_set_autoload(const std::string &prog, bool on) {
        call([&](auto raw) { return eunomia_prog_set_autoload(raw, c_text(prog), on); });
    }

    void prog_set_target_json(const std::string &prog, const std::string &json) {
        call([&](auto raw) { return eunomia_prog_set_target_json(raw, c_text(prog), c_text(json)); });
    }

    // Test run of a loaded program; see eunomia_prog_run. If a buffer is too small, error::need is the
    // required size.
    prog_result prog_run(const std::string &prog, const prog_input &in = {}) {
        eunomia_prog_input raw_in{
            sizeof(raw_in),  in.data,    in.data_len,    in.ctx,    in.ctx_len, in.data_out,
            in.data_out_cap, in.ctx_out, in.ctx_out_cap, in.repeat, 0};
        eunomia_prog_result out{};
        out.size = sizeof(out);
        auto use = entered();
        int status = eunomia_prog_run(use.raw(), c_text(prog), &raw_in, &out);
        checked(use.raw(), status, out.data_len > in.data_out_cap ? out.data_len : out.ctx_len);
        return {out.return_value, out.duration_ns, out.data_len, out.ctx_len};
    }

    // -- WASM packages --

    // Runs the guest until it ends and returns its exit code.
    template <class Fn> int wasm_run(const std::vector<std::string> &argv, format format, Fn &&fn) {
        int exit_code = 0;
        std::vector<const char *> raw_argv;
        pointers(argv, raw_argv);
        deliver(fn, [&](auto raw, auto on_event, void *arg) {
            return eunomia_wasm_run(raw, length(argv), raw_argv.data(), &exit_code, number(format), on_event,
                                    arg);
        });
        return exit_code;
    }

  private:
    friend class group;
    friend class prepared;

    // Before 1.0 minor versions are incompatible.
    static void check_version() {
        if (eunomia_version() / 100 != EUNOMIA_VERSION_NUM / 100)
            throw error(EUNOMIA_ERR_UNSUPPORTED, "the library in use is " + std::string(version_string()) +
                                                     ", the header is of version " +
                                                     std::to_string(EUNOMIA_VERSION_MAJOR) + "." +
                                                     std::to_string(EUNOMIA_VERSION_MINOR));
    }

    // eunomia_new reports its error only to the log, so the log keeps the line until there is a vm.
    void create(eunomia_options &raw, std::function<void(log_level, std::string_view)> log) {
        std::string line;
        state_->log = [&](log_level level, std::string_view text) {
            line = text;
            if (log)
                log(level, text);
        };
        raw.log = detail::state::on_log;
        raw.log_arg = state_.get();
        int status = eunomia_new(&state_->raw, &raw);
        if (status < 0)
            throw error(status, line, {}, errno);
        state_->log = log ? std::move(log) : [](log_level, std::string_view) {};
    }

    template <class Word> static std::uint32_t number(Word word) noexcept {
        return static_cast<std::uint32_t>(word);
    }

    // A C string ends at its first NUL; the rest would be lost.
    static const char *c_text(const std::string &text) {
        if (text.find('\0') != std::string::npos)
            throw error(EUNOMIA_ERR_INVAL,
                        "a string contains a NUL: \"" + std::string(text.c_str()) + "\"...");
        return text.c_str();
    }

    // Milliseconds for C: negative without limit, and at most INT_MAX (24 days).
    static int number(std::chrono::milliseconds timeout) noexcept {
        constexpr auto most = std::chrono::milliseconds(std::numeric_limits<int>::max());
        return timeout.count() < 0 ? -1 : static_cast<int>((timeout < most ? timeout : most).count());
    }

    static int length(const std::vector<std::string> &words) noexcept {
        return static_cast<int>(words.size());
    }

    // Returns a NULL-terminated array for C, stored in `to`; NULL if `words` is empty.
    static const char *const *pointers(const std::vector<std::string> &words, std::vector<const char *> &to) {
        for (const std::string &word : words)
            to.push_back(c_text(word));
        to.push_back(nullptr);
        return words.empty() ? nullptr : to.data();
    }

    // Keeps the vm alive during a call.
    detail::use entered() const {
        return detail::use(state_);
    }

    // Returns the result of a call or throws its error.
    static int checked(eunomia_vm *raw, int status, std::size_t need = 0) {
        if (status >= 0)
            return status;
        if (status == EUNOMIA_ERR_BUSY) // another thread may be changing the message
            throw error(status, "the vm is in use by another thread or by the call that runs this callback");
        throw_last(raw, status, need);
    }

    // The same for a call that takes no turn: its error belongs to this thread, whatever others do.
    static int checked_aside(eunomia_vm *raw, int status) {
        if (status < 0)
            throw_last(raw, status, 0);
        return status;
    }

    [[noreturn]] static void throw_last(eunomia_vm *raw, int status, std::size_t need) {
        const char *name;
        auto about = static_cast<subject>(eunomia_errsubject(raw, &name));
        throw error(status, eunomia_errmsg(raw), eunomia_errdetail(raw), eunomia_errsys(raw), need, about,
                    name);
    }

    template <class Call> int call_aside(Call &&function) const {
        auto use = entered();
        return checked_aside(use.raw(), function(use.raw()));
    }

    static std::string report_of(const detail::use &use) {
        const char *report = eunomia_replace_report(use.raw());
        return report ? report : "";
    }

    static eunomia_replace_options replace_options(replace_flag flags) noexcept {
        return {sizeof(eunomia_replace_options), number(flags), 0};
    }

    static exported exported_of(const detail::use &use, export_flag flags) {
        eunomia_exported raw{sizeof(raw), nullptr, nullptr, 0};
        checked(use.raw(), eunomia_export(use.raw(), number(flags), &raw));
        return {raw.description, {raw.fds, raw.fds + raw.count}};
    }

    static eunomia_exported raw_of(const exported &from) {
        return {sizeof(eunomia_exported), c_text(from.description()), from.fds().data(), from.fds().size()};
    }

    template <class Call> int call(Call &&function) const {
        auto use = entered();
        return checked(use.raw(), function(use.raw()));
    }

    template <class Call> kind opened(Call &&function) {
        return static_cast<kind>(call(function));
    }

    template <class Call> std::string text(Call &&function) const {
        const char *out = "";
        auto use = entered();
        checked(use.raw(), function(use.raw(), &out));
        return out;
    }

    template <class Raw, class Call> Raw struct_of(Call &&function) const {
        return made_of<Raw, Raw>(function, [](const Raw &raw) { return raw; });
    }

    // Converts a struct with `make` while its strings are valid.
    template <class Made, class Raw, class Call, class Make>
    Made made_of(Call &&function, Make &&make) const {
        Raw raw{};
        raw.size = sizeof(raw);
        auto use = entered();
        checked(use.raw(), function(use.raw(), &raw));
        return make(raw);
    }

    template <class Call> batch batch_of(Call &&function) const {
        batch out{};
        out.size = sizeof(out);
        auto use = entered();
        int status = function(use.raw(), &out);
        checked(use.raw(), status, out.need);
        return out;
    }

    template <class Raw = eunomia_event, class View = event, class Fn, class Call>
    int deliver(Fn &fn, Call &&function) {
        using callback_type = detail::callback<Fn, Raw, View>;
        auto use = entered();
        callback_type callback{fn};
        int status = function(use.raw(), callback_type::on_event, static_cast<void *>(&callback));
        if (callback.thrown)
            std::rethrow_exception(callback.thrown);
        return checked(use.raw(), status);
    }

    static map_info map_of(const eunomia_map_info &i) {
        return {i.name,     i.kind,       i.key_size, i.value_size, i.max_entries,
                i.key_type, i.value_type, i.fd,       i.cpus,       i.bytes};
    }

    static source_info source_of(const eunomia_source_info &i) {
        return {i.name,     i.kind,   i.interval_ms, i.record_size, i.type,
                i.key_type, i.events, i.lost,        i.lost_known};
    }

    static prog_info prog_of(const eunomia_prog_info &i) {
        return {i.name, i.section, i.target, i.type, i.flags, i.id, i.run_count, i.run_ns};
    }

    std::shared_ptr<detail::state> state_;
};

// ---- A prepared version ----

// A version that vm::prepare has loaded. It can be moved but not copied. Unless flip was called, its
// destructor unloads it. It may outlive the vm.
class prepared {
  public:
    prepared(prepared &&other) noexcept = default;
    prepared &operator=(prepared &&other) noexcept {
        abort();
        state_ = std::move(other.state_);
        report_ = std::move(other.report_);
        return *this;
    }
    ~prepared() {
        abort();
    }

    // Returns what will happen to programs and maps; see eunomia_replace_report.
    const std::string &report() const noexcept {
        return report_;
    }

    // Copies descriptors for the process that reads the events; see eunomia_export.
    exported export_fds(export_flag flags = export_flag::none) const {
        return vm::exported_of(detail::use(state_), flags | export_flag::prepared);
    }

    // Switches to this version and returns the report. If it throws, the old version runs as before, and this
    // one has been unloaded.
    std::string flip() {
        detail::use use(std::exchange(state_, nullptr));
        vm::checked_aside(use.raw(), eunomia_flip(use.raw()));
        return vm::report_of(use);
    }

    // Unloads this version, unless flip was called.
    void abort() noexcept {
        if (state_ && state_->enter()) {
            eunomia_abort(state_->raw);
            state_->leave();
        }
        state_ = nullptr;
    }

  private:
    friend class vm;

    explicit prepared(std::shared_ptr<detail::state> state) : state_(std::move(state)) {}

    std::shared_ptr<detail::state> state_;
    std::string report_;
};

inline prepared vm::prepare(std::string_view data, replace_flag flags) {
    auto options = replace_options(flags);
    auto use = entered();
    checked_aside(use.raw(), eunomia_prepare(use.raw(), data.data(), data.size(), &options));
    prepared made(state_);
    made.report_ = replace_report();
    return made;
}

// ---- Groups ----

// Many vms that one thread polls with one call. See eunomia_group_new. A vm leaves its group when it is
// closed. The callback for an event must not close the vm of that event; it may remove it from the group.
class group {
  public:
    group() {
        int status = eunomia_group_new(&raw_);
        if (status < 0)
            throw error(status, "cannot create a group", {}, errno);
    }

    group(group &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
    group &operator=(group &&other) noexcept {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~group() {
        eunomia_group_destroy(raw_);
    }

    // For calls of eunomia.h; NULL once moved from.
    eunomia_group *raw() const noexcept {
        return raw_;
    }

    // Adds a vm. event::member returns `member` for each of its events. Any thread, any time.
    void add(const vm &vm, void *member = nullptr) {
        auto use = vm.entered();
        checked(eunomia_group_add(raw_, use.raw(), member), "the vm is in a group already");
    }

    // Removes a vm, and waits until the callback for its event, if it runs in another thread, has returned.
    void remove(const vm &vm) {
        auto use = vm.entered();
        checked(eunomia_group_remove(raw_, use.raw()), "the vm is not in this group");
    }

    // Returns the number of events; 0 after the timeout. See eunomia_group_poll.
    template <class Fn> int poll(std::chrono::milliseconds timeout, format format, Fn &&fn) {
        using callback_type = detail::callback<std::remove_reference_t<Fn>, eunomia_event, event>;
        callback_type callback{fn};
        int status = eunomia_group_poll(raw_, vm::number(timeout), vm::number(format),
                                        callback_type::on_event, static_cast<void *>(&callback));
        if (callback.thrown)
            std::rethrow_exception(callback.thrown);
        return checked(status, status == EUNOMIA_ERR_BUSY ? "the group is being polled"
                                                          : eunomia_group_errmsg(raw_, nullptr));
    }

    // Returns the member that the last failed poll was about; NULL if it was not about a member.
    void *failed() const noexcept {
        void *member = nullptr;
        eunomia_group_errmsg(raw_, &member);
        return member;
    }

    // Any thread, any time, and in signal handlers.
    void stop() const noexcept {
        eunomia_group_stop(raw_);
    }

    int epoll_fd() const {
        return checked(eunomia_group_epoll_fd(raw_), "the group was moved from");
    }

  private:
    static int checked(int status, const char *message) {
        if (status < 0)
            throw error(status, message);
        return status;
    }

    eunomia_group *raw_ = nullptr;
};

} // namespace eunomia

#endif
