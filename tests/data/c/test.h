// Shared by the C tests: checks that print their condition, and vms with the package of
// tests/data/bpf/calls.bpf.c.
#ifndef TEST_H
#define TEST_H

#include <eunomia.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// A record of tests/data/bpf/calls.bpf.c.
struct call_event {
    uint32_t pid;
    uint32_t seq;
    uint64_t value;
    char comm[16];
};

// Directory of the packages, and the number of repeats of tests that repeat themselves.
static const char *packages;
static int repeats;

// Number of log lines, and the last line.
static int log_lines;
static char log_line[512];

#define CHECK(condition) ((condition) ? (void)0 : die(__FILE__, __LINE__, #condition, NULL))
#define CHECK_STATUS(expected, call) check_status(__FILE__, __LINE__, #call, expected, call)
#define CHECK_TEXT(part, text) check_text(__FILE__, __LINE__, part, text)
#define RUN(test) (fprintf(stderr, "%s\n", #test), test())

static inline void die(const char *file, int line, const char *what, const char *found) {
    fprintf(stderr, "%s:%d: %s%s%s; last log line: %s\n", file, line, what, found ? ", but found " : "",
            found ? found : "", log_line);
    exit(1);
}

static inline void check_status(const char *file, int line, const char *call, int expected, int found) {
    if (found != expected)
        fprintf(stderr, "%d\n", found);
    if (found != expected)
        die(file, line, call, eunomia_status_name(found));
}

static inline void check_text(const char *file, int line, const char *part, const char *text) {
    if (!strstr(text, part))
        die(file, line, part, text);
}

static inline void keep_log(void *arg, uint32_t level, const char *text) {
    (void)arg;
    (void)level;
    log_lines++;
    snprintf(log_line, sizeof(log_line), "%s", text);
}

// Returns the number of open descriptors of this process.
static inline int count_descriptors(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");

    CHECK(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

// Reads the directory of the packages from the command line.
static inline void begin(int argc, char **argv) {
    CHECK(argc == 3);
    packages = argv[1];
    repeats = atoi(argv[2]);
    CHECK(prctl(PR_SET_NAME, "tester") == 0);
}

static inline const char *package_path(const char *name) {
    static char path[4096];
    snprintf(path, sizeof(path), "%s/%s", packages, name);
    return path;
}

// Returns the content of a file; the caller frees it.
static inline void *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    CHECK(file && fseek(file, 0, SEEK_END) == 0);
    *len = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*len + 1);
    CHECK(data && fread(data, 1, *len, file) == *len);
    ((char *)data)[*len] = 0;
    fclose(file);
    return data;
}

static inline eunomia_vm *empty_vm_with(uint32_t poll_budget) {
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    options.log = keep_log;
    options.poll_budget = poll_budget;
    eunomia_vm *vm = NULL;
    CHECK_STATUS(EUNOMIA_OK, eunomia_new(&vm, &options));
    return vm;
}

static inline eunomia_vm *empty_vm(void) {
    return empty_vm_with(0);
}

// Ends the test with the vm's error if the call failed.
static inline void ok(eunomia_vm *vm, int status) {
    if (status < 0)
        die(eunomia_status_name(status), 0, eunomia_errmsg(vm), eunomia_errdetail(vm));
}

static inline eunomia_vm *open_vm(void) {
    eunomia_vm *vm = empty_vm();
    ok(vm, eunomia_open_file(vm, package_path("calls.json"), EUNOMIA_KIND_ANY));
    return vm;
}

static inline void start(eunomia_vm *vm) {
    uint32_t pid = (uint32_t)getpid();
    ok(vm, eunomia_var_set(vm, "target", &pid, sizeof(pid)));
    ok(vm, eunomia_attach(vm));
}

// Returns a vm whose program sends events for this process.
static inline eunomia_vm *running_vm(void) {
    eunomia_vm *vm = open_vm();
    start(vm);
    return vm;
}

static inline eunomia_vm *running_vm_with(uint32_t poll_budget) {
    eunomia_vm *vm = empty_vm_with(poll_budget);
    ok(vm, eunomia_open_file(vm, package_path("calls.json"), EUNOMIA_KIND_JSON));
    start(vm);
    return vm;
}

// Makes the program send `events` events at once.
static inline void trigger(eunomia_vm *vm, uint32_t events) {
    ok(vm, eunomia_var_set(vm, "burst", &events, sizeof(events)));
    syscall(SYS_getpgid, 0);
}

static inline int ignore_batch(void *arg, const eunomia_records *records) {
    (void)arg;
    (void)records;
    return 0;
}

static inline int ignore_event(void *arg, const eunomia_event *event) {
    (void)arg;
    (void)event;
    return 0;
}

static inline int count_event(void *arg, const eunomia_event *event) {
    (void)event;
    ++*(int *)arg;
    return 0;
}

// Polls until no event is left and returns the number of events.
static inline int drain(eunomia_vm *vm) {
    int all = 0, count;
    while ((count = eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL)) > 0)
        all += count;
    CHECK_STATUS(0, count);
    return all;
}

static inline eunomia_stats stats_of(eunomia_vm *vm) {
    eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
    CHECK_STATUS(EUNOMIA_OK, eunomia_stats_get(vm, &stats));
    return stats;
}

#endif
