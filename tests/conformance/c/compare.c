// Compares the outcome of a step with the expectations of the table.
#include "runner.h"

// Keeps the first difference only.
__attribute__((format(printf, 2, 3))) static void differ(scenario *scenario, const char *format, ...) {
    va_list list;
    if (scenario->difference[0])
        return;
    va_start(list, format);
    vsnprintf(scenario->difference, sizeof(scenario->difference), format, list);
    va_end(list);
}

static void same(scenario *scenario, const char *what, const char *expected, const char *found) {
    if (expected && strcmp(expected, found) != 0)
        differ(scenario, "%s is %s, not %s", what, found, expected);
}

static void part(scenario *scenario, const char *what, const char *expected, const char *found) {
    if (expected && !strstr(found, expected))
        differ(scenario, "%s is %s, without %s", what, found, expected);
}

static void same_number(scenario *scenario, const char *what, const char *expected, long long found) {
    if (expected && atoll(expected) != found)
        differ(scenario, "%s is %lld, not %s", what, found, expected);
}

// ---- events and records ----

static const char *const kinds[] = {"sample", "lost", "map_entry", "header", "output", "round"};

// Whether the event meets the expectation under `key`.
static bool is_like(const args *args, const char *key, const seen *seen) {
    const char *kind = find(args, "%s.kind", key), *data = find(args, "%s.data", key);
    const char *has = find(args, "%s.has", key), *key_text = find(args, "%s.key", key);
    const char *source = find(args, "%s.source", key), *type = find(args, "%s.type", key);
    const char *cpu = find(args, "%s.cpu", key), *time = find(args, "%s.time", key);
    const char *vm = find(args, "%s.vm", key);
    return seen->kind < 6 && strcmp(kinds[seen->kind], kind ? kind : "sample") == 0 &&
           (!data || strcmp(data, seen->data) == 0) && (!has || strstr(seen->data, has)) &&
           (!key_text || strcmp(key_text, seen->key) == 0) &&
           (!source || strcmp(source, seen->source) == 0) && (!type || strcmp(type, seen->type) == 0) &&
           (!vm || strcmp(vm, seen->vm) == 0) && (!cpu || (strcmp(cpu, "known") == 0) == seen->has_cpu) &&
           (!time || (strcmp(time, "known") == 0) == seen->has_time);
}

static void compare_list(scenario *scenario, const args *args, const char *name, const outcome *out) {
    char key[64];
    same_number(scenario, name, find(args, "%s", name), (long long)out->event_count);
    for (int i = 0; i < (int)number_of(args, name) && !scenario->difference[0]; i++) {
        snprintf(key, sizeof(key), "%s.%d", name, i);
        if (!is_like(args, key, &out->events[i]))
            differ(scenario, "%s has kind %u, source %s, key %s, type %s, data %s", key, out->events[i].kind,
                   out->events[i].source, out->events[i].key, out->events[i].type, out->events[i].data);
    }
}

static void compare_some(scenario *scenario, const args *args, const outcome *out) {
    if (!find(args, "some.data") && !find(args, "some.has"))
        return;
    for (size_t i = 0; i < out->event_count; i++)
        if (is_like(args, "some", &out->events[i]))
            return;
    differ(scenario, "no event of %zu is like some", out->event_count);
}

// ---- structs ----

// Copies the value of NAME in lines NAME=VALUE to `value`. Returns false if there is no such line.
static bool value_in(const char *info, const char *name, char *value, size_t room) {
    size_t length = strlen(name);
    for (; info && *info; info = strchr(info, '\n') ? strchr(info, '\n') + 1 : NULL) {
        if (strncmp(info, name, length) == 0 && info[length] == '=') {
            snprintf(value, room, "%.*s", (int)strcspn(info + length + 1, "\n"), info + length + 1);
            return true;
        }
    }
    return false;
}

// Compares the fields of the step below `group`.
static void compare_info(scenario *scenario, const args *args, const char *group, const char *info) {
    char start[128], value[256];
    snprintf(start, sizeof(start), "%s%s", args->prefix, group);
    for (size_t i = 0; i < args->in->count; i++) {
        const char *field = args->in->fields[i], *equals = strchr(field, '=');
        if (strncmp(field, start, strlen(start)) != 0 || !equals)
            continue;
        char name[128];
        snprintf(name, sizeof(name), "%.*s", (int)(equals - field), field);
        const char *member = name + strlen(args->prefix);
        member += strncmp(member, "info.", 5) == 0 ? 5 : 0;
        if (!value_in(info, member, value, sizeof(value)))
            differ(scenario, "no member %s", member);
        else
            same(scenario, member, equals + 1, value);
    }
}

// ---- all together ----

static void compare_subject(scenario *scenario, const args *args, const outcome *out) {
    static const char *const kinds[] = {"", "variable ", "map ", "program ", "metadata ", "file "};
    char found[512];
    snprintf(found, sizeof(found), "%s%s", kinds[out->subject], out->subject_name);
    same(scenario, "subject", find(args, "subject"), found);
}

static void compare_status(scenario *scenario, const args *args, const outcome *out) {
    const char *expected = find(args, "status");
    if (strcmp(expected ? expected : "EUNOMIA_OK", out->status_name) != 0)
        differ(scenario, "%s (%s), not %s", out->status_name, out->errmsg,
               expected ? expected : "EUNOMIA_OK");
    part(scenario, "errmsg", find(args, "errmsg"), out->errmsg);
    part(scenario, "errdetail", find(args, "errdetail"), out->errdetail);
    same_number(scenario, "errsys", find(args, "errsys"), out->errsys);
    compare_subject(scenario, args, out);
}

void compare(scenario *scenario, const args *args, const outcome *out) {
    static char hex[2 * sizeof(out->bytes) + 1];
    compare_status(scenario, args, out);
    same_number(scenario, "returned", find(args, "returns"), out->status);
    same_number(scenario, "exit_code", find(args, "exit_code"), out->exit_code);
    same_number(scenario, "need", find(args, "need"), (long long)out->need);
    same(scenario, "out", find(args, "out"), out->text ? out->text : "nothing");
    part(scenario, "out", find(args, "has"), out->text ? out->text : "nothing");
    to_hex(out->bytes, out->byte_count, hex, sizeof(hex));
    if (strcmp(text_of(args, "call"), "var_set") != 0)
        same(scenario, "bytes", find(args, "bytes"), hex);
    if (find(args, "events") && strcmp(text_of(args, "call"), "trigger") != 0)
        compare_list(scenario, args, "events", out);
    if (find(args, "records"))
        compare_list(scenario, args, "records", out);
    compare_some(scenario, args, out);
    compare_info(scenario, args, "info.", out->info);
    compare_info(scenario, args, "fields", out->info);
}
