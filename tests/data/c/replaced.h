// A package with one program of a control group, and its second version. For replace.c and phases.c.
#ifndef REPLACED_H
#define REPLACED_H

#include "test.h"

#include <sys/socket.h>
#include <sys/stat.h>

#define LEVEL 0x1234

struct old_event {
    uint32_t seq, version;
};

struct new_event {
    uint64_t more;
    uint32_t seq, version;
};

struct package {
    void *data;
    size_t len;
};

static struct package first, second;
static char group[4096], root[2048];
static int sock;

// ---- the control group of this process ----

static inline void write_to(const char *folder, const char *file, const char *text) {
    char path[8192];
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    FILE *to = fopen(path, "w");
    CHECK(to && fputs(text, to) >= 0 && fclose(to) == 0);
}

// Runs at exit, so that it also runs after a failed check.
static inline void leave_group(void) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/cgroup.procs", root);
    FILE *procs = fopen(path, "w");
    if (procs && fputs("0", procs) >= 0 && fclose(procs) == 0)
        rmdir(group);
}

static inline void enter_group(void) {
    char line[4096], kind[64];
    FILE *mounts = fopen("/proc/mounts", "r");
    CHECK(mounts);
    while (!root[0] && fgets(line, sizeof(line), mounts))
        if (sscanf(line, "%*s %2047s %63s", root, kind) != 2 || strcmp(kind, "cgroup2") != 0)
            root[0] = 0;
    fclose(mounts);
    CHECK(root[0]);
    snprintf(group, sizeof(group), "%s/eunomia-c-replace-%d", root, (int)getpid());
    CHECK(mkdir(group, 0755) == 0 && atexit(leave_group) == 0);
    write_to(group, "cgroup.procs", "0");
}

// ---- the package ----

static inline struct package read_package(const char *name) {
    struct package package;
    package.data = read_file(package_path(name), &package.len);
    return package;
}

static inline eunomia_vm *open_first(void) {
    char target[5000];
    eunomia_vm *vm = empty_vm();
    ok(vm, eunomia_open(vm, first.data, first.len, EUNOMIA_KIND_JSON));
    snprintf(target, sizeof(target), "{\"cgroup\": \"%s\"}", group);
    ok(vm, eunomia_prog_set_target_json(vm, "on_call", target));
    ok(vm, eunomia_var_set_json(vm, "wanted", "1"));
    return vm;
}

static inline eunomia_vm *running(void) {
    eunomia_vm *vm = open_first();
    ok(vm, eunomia_attach(vm));
    return vm;
}

static inline int replace(eunomia_vm *vm, struct package by, uint32_t flags) {
    eunomia_replace_options options = EUNOMIA_INIT(eunomia_replace_options);
    options.flags = flags;
    return eunomia_replace(vm, by.data, by.len, &options);
}

static inline void call(uint32_t seq) {
    uint32_t value = 0;
    socklen_t len = sizeof(value);
    getsockopt(sock, LEVEL, (int)seq, &value, &len);
}

static inline int keep_version(void *arg, const eunomia_event *event) {
    struct new_event is_new = {0};
    struct old_event is_old = {0};
    int *version = arg;
    CHECK(event->type && eunomia_type_size(event->type) == event->len);
    if (event->len == sizeof(is_new)) {
        memcpy(&is_new, event->data, sizeof(is_new));
        CHECK(is_new.version == 2);
        *version = 2;
    } else {
        CHECK(event->len == sizeof(is_old));
        memcpy(&is_old, event->data, sizeof(is_old));
        CHECK(is_old.version == 1);
        *version = 1;
    }
    return 0;
}

// Causes an event and returns the version that sent it.
static inline int version_of(eunomia_vm *vm) {
    int version = 0;
    call(7);
    CHECK_STATUS(1, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, keep_version, &version));
    return version;
}

static inline int count_versions(void *arg, const eunomia_event *event) {
    int version = 0;
    keep_version(&version, event);
    ++((int *)arg)[version];
    return 0;
}

struct poller {
    eunomia_vm *vm;
    int counts[3];
};

static inline void *poll_until_stopped(void *arg) {
    struct poller *poller = arg;
    CHECK_STATUS(EUNOMIA_OK, eunomia_run(poller->vm, EUNOMIA_FORMAT_RAW, count_versions, poller->counts));
    return NULL;
}

// Reads both versions, and opens the socket whose calls cause events.
static inline void begin_replaced(int argc, char **argv) {
    begin(argc, argv);
    first = read_package("replaced1.json");
    second = read_package("replaced2.json");
    enter_group();
    sock = socket(AF_INET, SOCK_DGRAM, 0); // belongs to the group of its creator
    CHECK(sock >= 0);
}

static inline void end_replaced(void) {
    close(sock);
    free(first.data);
    free(second.data);
}

#endif
