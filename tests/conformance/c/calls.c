// Executes the steps of a scenario: one function for each call of the table.
#include "runner.h"

#include <eunomia.h>

#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

// scenario->host
typedef struct host {
    eunomia_vm *vm, *other;
    eunomia_group *group;
    pthread_t stopper;
    bool has_stopper;
    // The last export.
    char *description;
    int fds[64];
    size_t fd_count;
} host;

typedef struct context {
    scenario *scenario;
    host *host;
    const args *args;
    outcome *out;
} context;

// ---- values of the table ----

static uint32_t format_of(const args *args) {
    const char *format = text_of(args, "format");
    return strcmp(format, "raw") == 0    ? EUNOMIA_FORMAT_RAW
           : strcmp(format, "text") == 0 ? EUNOMIA_FORMAT_TEXT
                                         : EUNOMIA_FORMAT_JSON;
}

static uint32_t kinds_of(const args *args) {
    const char *kinds = text_of(args, "kinds");
    return strcmp(kinds, "json") == 0   ? EUNOMIA_KIND_JSON
           : strcmp(kinds, "wasm") == 0 ? EUNOMIA_KIND_WASM
                                        : EUNOMIA_KIND_ANY;
}

static int answer_of(const args *args) {
    const char *answer = text_of(args, "answer");
    return strcmp(answer, "end") == 0 ? 1 : strcmp(answer, "fail") == 0 ? -1 : 0;
}

// Returns the NUL-terminated content of a file, valid until the next call.
static char *content(const char *path, size_t *length) {
    static char buffer[1 << 20];
    FILE *file = fopen(path, "rb");
    *length = file ? fread(buffer, 1, sizeof(buffer) - 1, file) : 0;
    buffer[*length] = 0;
    if (file)
        fclose(file);
    return buffer;
}

// ---- callbacks ----

static void on_log(void *arg, uint32_t level, const char *text) {
    scenario *scenario = arg;
    size_t length = strlen(scenario->log);
    (void)level;
    snprintf(scenario->log + length, sizeof(scenario->log) - length, "%s\n", text);
}

static void show(uint32_t format, const void *data, size_t length, char *to, size_t room) {
    if (format == EUNOMIA_FORMAT_RAW)
        to_hex(data, length, to, room);
    else
        snprintf(to, room, "%.*s", (int)length, (const char *)data);
}

static void keep(const scenario *scenario, outcome *out, const eunomia_event *event) {
    const host *host = scenario->host;
    seen *seen = &out->events[out->event_count];
    if (out->event_count == MAX_EVENTS)
        return;
    out->event_count++;
    seen->kind = event->kind;
    seen->vm = !event->member ? "" : event->member == host->vm ? "current" : "other";
    seen->has_cpu = event->cpu >= 0;
    seen->has_time = event->time_ns >= scenario->began_ns && event->time_ns <= now_ns();
    snprintf(seen->source, sizeof(seen->source), "%s", event->source);
    snprintf(seen->type, sizeof(seen->type), "%s", eunomia_type_name(event->type));
    show(event->format, event->data, event->len, seen->data, sizeof(seen->data));
    show(event->format, event->key, event->key_len, seen->key, sizeof(seen->key));
}

static int on_event(void *arg, const eunomia_event *event) {
    context *context = arg;
    keep(context->scenario, context->out, event);
    if (context->out->event_count == 1)
        take_steps_inside(context->scenario, context->args);
    return answer_of(context->args);
}

static int on_batch(void *arg, const eunomia_records *records) {
    context *context = arg;
    for (size_t i = 0; i == 0 || i < records->count; i++) {
        eunomia_event event = EUNOMIA_INIT(eunomia_event);
        event.kind = records->kind;
        event.format = EUNOMIA_FORMAT_RAW;
        event.source = records->source;
        event.data = i < records->count ? records->spans[i].data : NULL;
        event.len = i < records->count ? records->spans[i].len : 0;
        event.key = records->key;
        event.key_len = records->key_len;
        event.type = records->type;
        event.cpu = records->cpu;
        event.time_ns = records->time_ns;
        keep(context->scenario, context->out, &event);
        if (context->out->event_count == 1)
            take_steps_inside(context->scenario, context->args);
    }
    return answer_of(context->args);
}

// ---- structs, as fields NAME=VALUE ----

#define PUT(out, format, ...)                                                                                \
    snprintf((out)->info + strlen((out)->info), sizeof((out)->info) - strlen((out)->info), format "\n",      \
             __VA_ARGS__)
#define PUT_NUMBER(out, info, member) PUT(out, #member "=%lld", (long long)(info).member)
#define PUT_TEXT(out, info, member) PUT(out, #member "=%s", (info).member)
#define PUT_TYPE(out, info, member) PUT(out, #member "=%s", eunomia_type_name((info).member))

static void put_map(outcome *out, eunomia_map_info map) {
    PUT_TEXT(out, map, name);
    PUT_NUMBER(out, map, kind);
    PUT_NUMBER(out, map, key_size);
    PUT_NUMBER(out, map, value_size);
    PUT_NUMBER(out, map, max_entries);
    PUT_TYPE(out, map, key_type);
    PUT_TYPE(out, map, value_type);
    PUT_NUMBER(out, map, fd);
    PUT_NUMBER(out, map, cpus);
    PUT_NUMBER(out, map, bytes);
}

static void put_source(outcome *out, eunomia_source_info source) {
    PUT_TEXT(out, source, name);
    PUT_NUMBER(out, source, kind);
    PUT_NUMBER(out, source, interval_ms);
    PUT_NUMBER(out, source, record_size);
    PUT_TYPE(out, source, type);
    PUT_TYPE(out, source, key_type);
    PUT_NUMBER(out, source, events);
    PUT_NUMBER(out, source, lost);
    PUT_NUMBER(out, source, lost_known);
}

static void put_prog(outcome *out, eunomia_prog_info prog) {
    PUT_TEXT(out, prog, name);
    PUT_TEXT(out, prog, section);
    PUT_TEXT(out, prog, target);
    PUT_NUMBER(out, prog, type);
    PUT_NUMBER(out, prog, flags);
    PUT_NUMBER(out, prog, id);
}

static void put_stats(outcome *out, eunomia_stats stats) {
    PUT_NUMBER(out, stats, events);
    PUT_NUMBER(out, stats, bytes);
    PUT_NUMBER(out, stats, lost_kernel);
    PUT_NUMBER(out, stats, lost_queue);
    PUT_NUMBER(out, stats, guest_dropped);
    PUT_NUMBER(out, stats, malformed);
    PUT_NUMBER(out, stats, polls);
    PUT_NUMBER(out, stats, replaces);
    PUT_NUMBER(out, stats, lost_known);
}

// ---- the calls ----

#define CALL(name) static int call_##name(eunomia_vm *vm, const args *args, context *context)

static uint32_t option(const args *args, const char *name) {
    const char *value = find(args, "options.%s", name);
    return value ? (uint32_t)atoi(value) : 0;
}

CALL(new) {
    (void)vm;
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    options.log = on_log;
    options.log_arg = context->scenario;
    options.log_level = option(args, "log_level");
    options.perf_pages = option(args, "perf_pages");
    options.poll_budget = option(args, "poll_budget");
    options.wasm_stack = option(args, "wasm_stack");
    options.wasm_heap = option(args, "wasm_heap");
    options.wasm_memory = option(args, "wasm_memory");
    options.wasm_budget_ms = option(args, "wasm_budget_ms");
    options.max_kernel_memory = option(args, "max_kernel_memory");
    options.flags = (option(args, "raw_events") ? EUNOMIA_WASM_RAW_EVENTS : 0u) |
                    (option(args, "stdio") ? EUNOMIA_WASM_STDIO : 0u) |
                    (option(args, "replaceable") ? EUNOMIA_REPLACEABLE : 0u);
    return eunomia_new(&context->host->vm, &options);
}

CALL(destroy) {
    (void)args;
    eunomia_destroy(vm);
    context->host->vm = NULL;
    return 0;
}

CALL(open) {
    (void)context;
    size_t length;
    const char *data = content(text_of(args, "file"), &length);
    return eunomia_open(vm, data, length, kinds_of(args));
}

CALL(replace) {
    size_t length;
    const char *data = content(text_of(args, "file"), &length);
    eunomia_replace_options options = EUNOMIA_INIT(eunomia_replace_options);
    options.flags = (uint32_t)number_of(args, "flags");
    int status = eunomia_replace(vm, data, length, &options);
    context->out->text = eunomia_replace_report(vm);
    return status;
}

CALL(prepare) {
    size_t length;
    const char *data = content(text_of(args, "file"), &length);
    eunomia_replace_options options = EUNOMIA_INIT(eunomia_replace_options);
    options.flags = (uint32_t)number_of(args, "flags");
    int status = eunomia_prepare(vm, data, length, &options);
    context->out->text = eunomia_replace_report(vm);
    return status;
}

CALL(flip) {
    (void)args;
    int status = eunomia_flip(vm);
    context->out->text = eunomia_replace_report(vm);
    return status;
}

CALL(rollback) {
    (void)args;
    int status = eunomia_rollback(vm);
    context->out->text = eunomia_replace_report(vm);
    return status;
}

static void forget_exported(host *host) {
    while (host->fd_count > 0)
        close(host->fds[--host->fd_count]);
    free(host->description);
    host->description = NULL;
}

CALL(export) {
    host *host = context->host;
    eunomia_exported exported = EUNOMIA_INIT(eunomia_exported);
    int status = eunomia_export(vm, (uint32_t)number_of(args, "flags"), &exported);
    if (status < 0)
        return status;
    forget_exported(host);
    host->description = strdup(exported.description);
    for (; host->fd_count < exported.count && host->fd_count < 64; host->fd_count++)
        host->fds[host->fd_count] = exported.fds[host->fd_count];
    context->out->text = host->description;
    return status;
}

static eunomia_exported kept_exported(const host *host) {
    eunomia_exported exported = EUNOMIA_INIT(eunomia_exported);
    exported.description = host->description;
    exported.fds = host->fds;
    exported.count = host->fd_count;
    return exported;
}

CALL(import) {
    size_t length;
    const char *data = content(text_of(args, "file"), &length);
    eunomia_exported exported = kept_exported(context->host);
    return eunomia_import(vm, data, length, &exported);
}

CALL(adopt) {
    size_t length;
    const char *data = content(text_of(args, "file"), &length);
    eunomia_exported exported = kept_exported(context->host);
    return eunomia_adopt(vm, data, length, &exported);
}

CALL(open_file) {
    (void)context;
    return eunomia_open_file(vm, text_of(args, "path"), kinds_of(args));
}

CALL(open_object) {
    (void)context;
    size_t length, ignored;
    const char *path = find(args, "meta");
    char *meta = path ? strdup(content(path, &ignored)) : NULL;
    const char *elf = content(text_of(args, "file"), &length);
    int status = eunomia_open_object(vm, elf, length, meta);
    free(meta);
    return status;
}

#define PLAIN(name, function)                                                                                \
    CALL(name) {                                                                                             \
        (void)args, (void)context;                                                                           \
        return function(vm);                                                                                 \
    }
PLAIN(load, eunomia_load)
PLAIN(attach, eunomia_attach)
PLAIN(detach, eunomia_detach)
PLAIN(abort, eunomia_abort)
PLAIN(commit, eunomia_commit)
PLAIN(drained, eunomia_drained)
PLAIN(queue_stop, eunomia_queue_stop)
PLAIN(map_count, eunomia_map_count)
PLAIN(source_count, eunomia_source_count)
PLAIN(prog_count, eunomia_prog_count)

CALL(stop) {
    (void)args, (void)context;
    eunomia_stop(vm);
    return 0;
}

CALL(var_set_json) {
    (void)context;
    return eunomia_var_set_json(vm, text_of(args, "name"), text_of(args, "json"));
}

CALL(var_set) {
    unsigned char *bytes = context->out->bytes;
    size_t length = bytes_of(args, "bytes", bytes, sizeof(context->out->bytes));
    return eunomia_var_set(vm, text_of(args, "name"), bytes, length);
}

CALL(var_get_json) {
    return eunomia_var_get_json(vm, text_of(args, "name"), &context->out->text);
}

CALL(var_get) {
    context->out->byte_count = sizeof(context->out->bytes);
    return eunomia_var_get(vm, text_of(args, "name"), context->out->bytes, &context->out->byte_count);
}

CALL(args_set) {
    (void)context;
    const char *argv[16];
    int argc = words_of(args, "argv", argv, 16);
    return eunomia_args_set(vm, argc, argv);
}

CALL(args_help) {
    (void)args;
    return eunomia_args_help(vm, &context->out->text);
}

CALL(describe) {
    (void)args;
    return eunomia_describe(vm, &context->out->text, NULL);
}

CALL(poll) {
    return eunomia_poll(vm, (int)number_of(args, "timeout_ms"), format_of(args), on_event, context);
}

CALL(poll_batch) {
    return eunomia_poll_batch(vm, (int)number_of(args, "timeout_ms"), on_batch, context);
}

// ---- groups; each vm is a member under its own address ----

static eunomia_group *group_of(host *host) {
    if (!host->group && eunomia_group_new(&host->group) < 0)
        abort();
    return host->group;
}

CALL(swap) {
    (void)args;
    context->host->vm = context->host->other;
    context->host->other = vm;
    return 0;
}

CALL(group_add) {
    (void)args;
    return eunomia_group_add(group_of(context->host), vm, vm);
}

CALL(group_remove) {
    (void)args;
    return eunomia_group_remove(group_of(context->host), vm);
}

CALL(group_poll) {
    (void)vm;
    int timeout = (int)number_of(args, "timeout_ms");
    return eunomia_group_poll(group_of(context->host), timeout, format_of(args), on_event, context);
}

CALL(group_stop) {
    (void)vm, (void)args;
    eunomia_group_stop(group_of(context->host));
    return 0;
}

CALL(group_readable) {
    (void)vm;
    struct pollfd fd = {.fd = eunomia_group_epoll_fd(group_of(context->host)), .events = POLLIN};
    return poll(&fd, 1, (int)number_of(args, "timeout_ms"));
}

CALL(group_failed) {
    (void)args;
    void *member = NULL;
    eunomia_group_errmsg(group_of(context->host), &member);
    return member && member == vm;
}

CALL(run) {
    return eunomia_run(vm, format_of(args), on_event, context);
}

CALL(iter_each) {
    return eunomia_iter_each(vm, text_of(args, "prog"), on_event, context);
}

CALL(map_each) {
    return eunomia_map_each(vm, text_of(args, "map"), format_of(args), on_event, context);
}

CALL(wasm_run) {
    const char *argv[16];
    int argc = words_of(args, "argv", argv, 16);
    return eunomia_wasm_run(vm, argc, argv, &context->out->exit_code, format_of(args), on_event, context);
}

// Stores the result of read or map_dump: lines as text, raw records as events.
static int keep_batch(context *context, int status, char *buffer, const eunomia_batch *batch) {
    outcome *out = context->out;
    out->need = batch->need;
    if (status < 0)
        return status;
    buffer[batch->len] = 0;
    out->text = buffer;
    if (format_of(context->args) != EUNOMIA_FORMAT_RAW)
        return status;
    for (size_t at = 0; at < batch->len; out->event_count++) {
        const eunomia_record *head = (const eunomia_record *)(buffer + at);
        size_t data = at + sizeof(*head), key = data + (head->len + 7) / 8 * 8;
        seen *seen = &out->events[out->event_count];
        memset(seen, 0, sizeof(*seen));
        seen->vm = "";
        to_hex(buffer + data, head->len, seen->data, sizeof(seen->data));
        to_hex(buffer + key, head->key_len, seen->key, sizeof(seen->key));
        at += head->size;
    }
    return status;
}

static uint64_t batch_buffer[MAX_TEXT / 8 + 1];

CALL(read) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    size_t room = (size_t)number_of(args, "room");
    int timeout = (int)number_of(args, "timeout_ms");
    int status = eunomia_read(vm, timeout, format_of(args), batch_buffer, room, &batch);
    return keep_batch(context, status, (char *)batch_buffer, &batch);
}

CALL(map_dump) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    size_t room = (size_t)number_of(args, "room");
    int status = eunomia_map_dump(vm, text_of(args, "map"), format_of(args), batch_buffer, room, &batch);
    return keep_batch(context, status, (char *)batch_buffer, &batch);
}

CALL(pause) {
    (void)context;
    return eunomia_pause(vm, (int)number_of(args, "on"));
}

CALL(stats_get) {
    (void)args;
    eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
    int status = eunomia_stats_get(vm, &stats);
    put_stats(context->out, stats);
    return status;
}

CALL(queue_start) {
    (void)context;
    return eunomia_queue_start(vm, (size_t)number_of(args, "max_bytes"));
}

// A function that describes an object by its index or name.
#define DESCRIBE(name, type, put, argument)                                                                  \
    CALL(name) {                                                                                             \
        eunomia_##type info = EUNOMIA_INIT(eunomia_##type);                                                  \
        int status = eunomia_##name(vm, argument, &info);                                                    \
        if (status >= 0)                                                                                     \
            put(context->out, info);                                                                         \
        return status;                                                                                       \
    }
DESCRIBE(map_at, map_info, put_map, (int)number_of(args, "index"))
DESCRIBE(map_find, map_info, put_map, text_of(args, "map"))
DESCRIBE(source_at, source_info, put_source, (int)number_of(args, "index"))
DESCRIBE(prog_at, prog_info, put_prog, (int)number_of(args, "index"))
DESCRIBE(prog_find, prog_info, put_prog, text_of(args, "prog"))

CALL(map_get) {
    unsigned char key[64];
    size_t length = bytes_of(args, "key", key, sizeof(key));
    context->out->byte_count = (size_t)number_of(args, "size");
    return eunomia_map_get(vm, text_of(args, "map"), key, length, context->out->bytes,
                           context->out->byte_count);
}

CALL(map_set) {
    (void)context;
    unsigned char key[64], value[256];
    size_t key_length = bytes_of(args, "key", key, sizeof(key));
    size_t value_length = bytes_of(args, "value", value, sizeof(value));
    uint64_t flags = (uint64_t)number_of(args, "flags");
    return eunomia_map_set(vm, text_of(args, "map"), key, key_length, value, value_length, flags);
}

CALL(map_del) {
    (void)context;
    unsigned char key[64];
    size_t length = bytes_of(args, "key", key, sizeof(key));
    return eunomia_map_del(vm, text_of(args, "map"), key, length);
}

CALL(map_next) {
    unsigned char key[64];
    bytes_of(args, "key", key, sizeof(key));
    context->out->byte_count = (size_t)number_of(args, "size");
    return eunomia_map_next(vm, text_of(args, "map"), find(args, "key") ? key : NULL, context->out->bytes,
                            context->out->byte_count);
}

CALL(map_get_json) {
    return eunomia_map_get_json(vm, text_of(args, "map"), text_of(args, "key"), &context->out->text);
}

CALL(map_set_json) {
    (void)context;
    return eunomia_map_set_json(vm, text_of(args, "map"), text_of(args, "key"), text_of(args, "value"),
                                (uint64_t)number_of(args, "flags"));
}

CALL(map_del_json) {
    (void)context;
    return eunomia_map_del_json(vm, text_of(args, "map"), text_of(args, "key"));
}

CALL(map_set_max_entries) {
    (void)context;
    return eunomia_map_set_max_entries(vm, text_of(args, "map"), (uint32_t)number_of(args, "count"));
}

CALL(prog_run) {
    unsigned char data[64], ctx[64];
    eunomia_prog_input in = EUNOMIA_INIT(eunomia_prog_input);
    eunomia_prog_result result = EUNOMIA_INIT(eunomia_prog_result);
    in.data = data;
    in.data_len = bytes_of(args, "data", data, sizeof(data));
    in.ctx = ctx;
    in.ctx_len = bytes_of(args, "ctx", ctx, sizeof(ctx));
    in.data_out = context->out->bytes;
    in.data_out_cap = (size_t)number_of(args, "size");
    int status = eunomia_prog_run(vm, text_of(args, "prog"), &in, &result);
    context->out->byte_count = result.data_len;
    return status < 0 ? status : (int)result.return_value;
}

CALL(prog_set_autoload) {
    (void)context;
    return eunomia_prog_set_autoload(vm, text_of(args, "prog"), (int)number_of(args, "on"));
}

CALL(prog_set_target_json) {
    (void)context;
    return eunomia_prog_set_target_json(vm, text_of(args, "prog"), text_of(args, "json"));
}

CALL(status_name) {
    (void)vm;
    context->out->text = eunomia_status_name((int)number_of(args, "number"));
    return 0;
}

// Returns the type of a member, or the type itself without a member.
static const eunomia_type *member_of(const eunomia_type *type, const char *member) {
    eunomia_field field = EUNOMIA_INIT(eunomia_field);
    for (uint32_t i = 0; member && eunomia_type_field(type, i, &field) == 0; i++)
        if (strcmp(field.name, member) == 0)
            return field.type;
    return type;
}

CALL(fields) {
    eunomia_source_info source = EUNOMIA_INIT(eunomia_source_info);
    eunomia_field field = EUNOMIA_INIT(eunomia_field);
    int status = eunomia_source_at(vm, (int)number_of(args, "index"), &source);
    const eunomia_type *type = member_of(source.type, find(args, "member"));
    for (uint32_t i = 0; eunomia_type_field(type, i, &field) == 0; i++)
        PUT(context->out,
            "fields.%u.name=%s\nfields.%u.type=%s\nfields.%u.kind=%u\nfields.%u.bit_offset=%u\n"
            "fields.%u.bit_size=%u\nfields.%u.value=%lld",
            i, field.name, i, eunomia_type_name(field.type), i, eunomia_type_kind_of(field.type), i,
            field.bit_offset, i, field.bit_size, i, (long long)field.value);
    PUT(context->out, "fields=%u", eunomia_type_count(type));
    return status;
}

// ---- calls without a function of the library ----

CALL(trigger) {
    (void)context;
    const char *events = find(args, "events");
    int status = events ? eunomia_var_set_json(vm, "burst", events) : 0;
    syscall(SYS_getpgid, 0);
    return status;
}

CALL(readable) {
    (void)context;
    struct pollfd fd = {.fd = eunomia_epoll_fd(vm), .events = POLLIN};
    return poll(&fd, 1, (int)number_of(args, "timeout_ms"));
}

static void *stop_after_a_while(void *vm) {
    usleep(50000);
    eunomia_stop(vm);
    return NULL;
}

CALL(stop_soon) {
    (void)args;
    context->host->has_stopper = true;
    return -pthread_create(&context->host->stopper, NULL, stop_after_a_while, vm);
}

static void *trigger_often(void *count) {
    for (intptr_t left = (intptr_t)count; left > 0; left--) {
        syscall(SYS_getpgid, 0);
        usleep(100);
    }
    return NULL;
}

CALL(triggers_start) {
    (void)vm;
    void *count = (void *)(intptr_t)number_of(args, "count");
    context->host->has_stopper = true;
    return -pthread_create(&context->host->stopper, NULL, trigger_often, count);
}

static int ignore(void *arg, const eunomia_event *event) {
    (void)arg, (void)event;
    return 0;
}

CALL(triggers_end) {
    (void)args;
    eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
    int status;
    if (context->host->has_stopper)
        pthread_join(context->host->stopper, NULL);
    context->host->has_stopper = false;
    while ((status = eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore, NULL)) > 0)
        continue;
    if (status >= 0)
        status = eunomia_stats_get(vm, &stats);
    return status < 0 ? status : (int)(stats.events + stats.lost_kernel);
}

CALL(log) {
    (void)vm, (void)args;
    context->out->text = context->scenario->log;
    return 0;
}

// clang-format off
#define ENTRY(name) {#name, call_##name}
// clang-format on

static const struct {
    const char *name;
    int (*function)(eunomia_vm *vm, const args *args, context *context);
} calls[] = {
    ENTRY(new),
    ENTRY(destroy),
    ENTRY(open),
    ENTRY(open_file),
    ENTRY(open_object),
    ENTRY(load),
    ENTRY(attach),
    ENTRY(detach),
    ENTRY(replace),
    ENTRY(prepare),
    ENTRY(flip),
    ENTRY(abort),
    ENTRY(commit),
    ENTRY(rollback),
    ENTRY(export),
    ENTRY(import),
    ENTRY(adopt),
    ENTRY(drained),
    ENTRY(var_set_json),
    ENTRY(var_set),
    ENTRY(var_get_json),
    ENTRY(var_get),
    ENTRY(args_set),
    ENTRY(args_help),
    ENTRY(describe),
    ENTRY(poll),
    ENTRY(poll_batch),
    ENTRY(run),
    ENTRY(swap),
    ENTRY(group_add),
    ENTRY(group_remove),
    ENTRY(group_poll),
    ENTRY(group_stop),
    ENTRY(group_readable),
    ENTRY(group_failed),
    ENTRY(read),
    ENTRY(iter_each),
    ENTRY(pause),
    ENTRY(stop),
    ENTRY(stats_get),
    ENTRY(queue_start),
    ENTRY(queue_stop),
    ENTRY(map_count),
    ENTRY(map_at),
    ENTRY(map_find),
    ENTRY(map_get),
    ENTRY(map_set),
    ENTRY(map_del),
    ENTRY(map_next),
    ENTRY(map_get_json),
    ENTRY(map_set_json),
    ENTRY(map_del_json),
    ENTRY(map_each),
    ENTRY(map_dump),
    ENTRY(source_count),
    ENTRY(source_at),
    ENTRY(prog_count),
    ENTRY(prog_at),
    ENTRY(prog_find),
    ENTRY(map_set_max_entries),
    ENTRY(prog_run),
    ENTRY(prog_set_autoload),
    ENTRY(prog_set_target_json),
    ENTRY(wasm_run),
    ENTRY(status_name),
    ENTRY(fields),
    ENTRY(trigger),
    ENTRY(readable),
    ENTRY(stop_soon),
    ENTRY(triggers_start),
    ENTRY(triggers_end),
    ENTRY(log),
};

static host *host_of(scenario *scenario) {
    if (!scenario->host)
        scenario->host = calloc(1, sizeof(host));
    if (!scenario->host)
        abort();
    return scenario->host;
}

bool carry_out(scenario *scenario, const args *args, outcome *out) {
    context context = {scenario, host_of(scenario), args, out};
    const char *name = text_of(args, "call");
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (strcmp(calls[i].name, name) != 0)
            continue;
        out->status = calls[i].function(context.host->vm, args, &context);
        out->status_name = eunomia_status_name(out->status);
        out->errmsg = eunomia_errmsg(context.host->vm);
        out->errdetail = eunomia_errdetail(context.host->vm);
        out->errsys = eunomia_errsys(context.host->vm);
        out->subject = eunomia_errsubject(context.host->vm, &out->subject_name);
        return true;
    }
    return false;
}

void clean_up(scenario *scenario) {
    host *host = scenario->host;
    if (!host)
        return;
    if (host->has_stopper)
        pthread_join(host->stopper, NULL);
    eunomia_destroy(host->vm);
    eunomia_destroy(host->other);
    eunomia_group_destroy(host->group);
    forget_exported(host);
    free(host);
    scenario->host = NULL;
}
