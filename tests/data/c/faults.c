// Makes the n-th system call of a vm's life cycle fail, for n = 0, 1, ... until a cycle completes without a
// failure. The function that fails must return an error and succeed when it is repeated, nothing may leak,
// and a second vm must load as usual. Each cycle runs in a process of its own. There libbpf has already
// probed the kernel's features: it probes once per process, and treats a feature as missing if its probe
// fails.
//
// Then it does the same with the n-th allocation by libbpf, libelf, zlib, WAMR or the C library. An
// allocation failure in Rust code may abort the process with Rust's message.
#include "test.h"

#include "fail.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

// Exit codes of a child: the cycle passed, and the cycle passed without an injected failure.
enum { SURVIVED = 0, NOT_REACHED = 3 };

// ---- a life cycle, step by step
// ------------------------------------------------------------------------------------

// Number of events that the program sent, and that were delivered.
static int sent, events;

static int step_open(eunomia_vm *vm) {
    return eunomia_open_file(vm, package_path("calls.json"), EUNOMIA_KIND_ANY);
}

static int step_set(eunomia_vm *vm) {
    uint32_t pid = (uint32_t)getpid();
    return eunomia_var_set(vm, "target", &pid, sizeof(pid));
}

static int step_args(eunomia_vm *vm) {
    static const char *const argv[] = {"calls", "--burst", "3", NULL};
    return eunomia_args_set(vm, 3, argv);
}

static int step_call(eunomia_vm *vm) {
    uint32_t burst = 3;
    int status = eunomia_var_set(vm, "burst", &burst, sizeof(burst));

    if (status < 0)
        return status;
    getpgid(0);
    sent += 3;
    return status;
}

// A poll may return after the first event.
static int step_poll(eunomia_vm *vm) {
    int status = 1;

    while (status > 0 && events < sent)
        status = eunomia_poll(vm, 1000, EUNOMIA_FORMAT_JSON, count_event, &events);
    return status;
}

static int step_read(eunomia_vm *vm) {
    static char lines[4096];
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    int count = eunomia_read(vm, 1000, EUNOMIA_FORMAT_JSON, lines, sizeof(lines), &batch);

    events += count > 0 ? count : 0;
    return count;
}

static int step_batch(eunomia_vm *vm) {
    int count = eunomia_poll_batch(vm, 1000, ignore_batch, NULL);

    events += count > 0 ? count : 0;
    return count;
}

static int step_map(eunomia_vm *vm) {
    return eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_JSON, ignore_event, NULL);
}

static int step_queue(eunomia_vm *vm) {
    return eunomia_queue_start(vm, 0);
}

static int step_pause(eunomia_vm *vm) {
    return eunomia_pause(vm, 1);
}

static int step_go_on(eunomia_vm *vm) {
    return eunomia_pause(vm, 0);
}

static int step_describe(eunomia_vm *vm) {
    const char *text;
    return eunomia_describe(vm, &text, NULL);
}

typedef int (*const step)(eunomia_vm *);

// Checks that the failure is the injected one and has a message, and that the repeated call succeeds.
static void take(eunomia_vm *vm, const char *name, step step) {
    int status = step(vm);

    if (status >= 0)
        return;
    // Functions for any thread store no message.
    bool is_told = eunomia_errmsg(vm)[0] || step == step_go_on;
    if (!failed || !is_told || status == EUNOMIA_ERR_INTERNAL)
        die(name, status, "a step failed for no good reason", eunomia_errmsg(vm));
    status = step(vm);
    if (status < 0)
        die(name, status, failed, eunomia_errmsg(vm));
}

#define TAKE(step) take(vm, #step, step)

static eunomia_vm *new_vm(uint32_t flags) {
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    eunomia_vm *vm = NULL;

    options.log = keep_log;
    options.flags = flags;
    if (eunomia_new(&vm, &options) < 0) {
        CHECK(failed && !vm);
        CHECK_STATUS(EUNOMIA_OK, eunomia_new(&vm, &options));
    }
    return vm;
}

// Runs a vm until it has delivered events.
static eunomia_vm *started(uint32_t flags) {
    eunomia_vm *vm = new_vm(flags);

    TAKE(step_open);
    TAKE(step_args);
    TAKE(step_set);
    TAKE(eunomia_load);
    TAKE(eunomia_attach);
    return vm;
}

static void live(void) {
    eunomia_vm *vm = started(0);

    sent = events = 0;
    TAKE(step_call);
    TAKE(step_poll);
    TAKE(step_map);
    TAKE(step_describe);
    TAKE(eunomia_detach);
    TAKE(step_map);
    TAKE(eunomia_attach);
    TAKE(step_call);
    TAKE(step_read);
    TAKE(step_call);
    TAKE(step_batch);
    TAKE(step_queue);
    TAKE(step_pause);
    TAKE(step_call);
    TAKE(step_go_on);
    TAKE(step_poll);
    TAKE(eunomia_queue_stop);
    // Continues with another package.
    eunomia_vm *old = vm;
    vm = started(0);
    eunomia_destroy(old);
    TAKE(step_call);
    TAKE(step_poll);
    if (events != sent)
        die(__FILE__, events, "not all events came", failed);
    eunomia_destroy(vm);
}

// ---- a life cycle with a second version
// ----------------------------------------------------------------------------

// Both are complete before the first failure.
static char *first, *next;
static size_t first_len, next_len;

// Reads the first version and makes the second one, which has another time-out in its metadata.
static void make_versions(void) {
    static const char meta[] = "\"meta\":{", more[] = "\"poll_timeout_ms\":77,";
    const char *at;

    first = read_file(package_path("calls.json"), &first_len);
    at = memmem(first, first_len, meta, strlen(meta));
    CHECK(at);
    size_t before = at - first + strlen(meta);
    next_len = first_len + strlen(more);
    next = malloc(next_len);
    CHECK(next);
    memcpy(next, first, before);
    memcpy(next + before, more, strlen(more));
    memcpy(next + before + strlen(more), first + before, first_len - before);
}

// After a failure the old version must still run.
static int step_replace(eunomia_vm *vm) {
    int status = eunomia_replace(vm, next, next_len, NULL);

    if (status < 0) {
        getpgid(0);
        sent += 3;
    }
    return status;
}

static void live_replace(void) {
    eunomia_vm *vm = started(EUNOMIA_REPLACEABLE);

    sent = events = 0;
    TAKE(step_call);
    TAKE(step_replace);
    TAKE(step_call);
    TAKE(step_poll);
    if (events != sent)
        die(__FILE__, events, "not all events of both versions came", failed);
    eunomia_destroy(vm);
}

// After a failure the old version must still run.
static int step_switch(eunomia_vm *vm) {
    eunomia_replace_options options = EUNOMIA_INIT(eunomia_replace_options);

    options.flags = EUNOMIA_REPLACE_KEEP_OLD;
    int status = eunomia_prepare(vm, next, next_len, &options);
    if (status >= 0)
        status = eunomia_flip(vm);
    if (status < 0) {
        getpgid(0);
        sent += 3;
    }
    return status;
}

static void live_phases(void) {
    eunomia_vm *vm = started(EUNOMIA_REPLACEABLE);

    sent = events = 0;
    TAKE(step_switch);
    TAKE(step_call);
    TAKE(eunomia_rollback);
    TAKE(step_call);
    TAKE(step_switch);
    TAKE(eunomia_commit);
    TAKE(step_call);
    TAKE(step_poll);
    if (events != sent)
        die(__FILE__, events, "not all events of all versions came", failed);
    eunomia_destroy(vm);
}

// ---- a life cycle in which another vm reads
// -------------------------------------------------------------------------

static eunomia_exported exported;

static int step_export(eunomia_vm *vm) {
    exported = (eunomia_exported)EUNOMIA_INIT(eunomia_exported);
    return eunomia_export(vm, 0, &exported);
}

static int step_import(eunomia_vm *vm) {
    return eunomia_import(vm, first, first_len, &exported);
}

static void live_export(void) {
    eunomia_vm *loader = started(0), *vm = new_vm(0);

    sent = events = 0;
    take(loader, "export", step_export);
    TAKE(step_import);
    take(loader, "call", step_call);
    TAKE(step_poll);
    if (events != sent)
        die(__FILE__, events, "not all events came", failed);
    for (size_t i = 0; i < exported.count; i++)
        close(exported.fds[i]);
    eunomia_destroy(vm);
    eunomia_destroy(loader);
}

// The part of a life cycle that does not wait for the kernel.
static void live_shortly(void) {
    eunomia_vm *vm = new_vm(0);

    TAKE(step_open);
    TAKE(eunomia_load);
    eunomia_destroy(vm);
}

static int run_guest(eunomia_vm *vm) {
    static const char *const argv[] = {"guest", "one", NULL};
    int code = -1, status = eunomia_wasm_run(vm, 2, argv, &code, EUNOMIA_FORMAT_JSON, ignore_event, NULL);

    if (status < 0 || code == 5)
        return status;
    // This guest returns the error as its exit code.
    CHECK(failed);
    status = eunomia_wasm_run(vm, 2, argv, &code, EUNOMIA_FORMAT_JSON, ignore_event, NULL);
    CHECK(status < 0 || code == 5);
    return status;
}

static int open_guest(eunomia_vm *vm) {
    return eunomia_open_file(vm, package_path("loads.wasm"), EUNOMIA_KIND_ANY);
}

static void live_of_a_guest(void) {
    eunomia_vm *vm = new_vm(0);

    TAKE(open_guest);
    TAKE(run_guest);
    eunomia_destroy(vm);
}

// ---- one process per cycle
// ------------------------------------------------------------------------------

// Resources that must not leak.
struct holdings {
    int descriptors;
    int mappings;
    long pieces;
};

static struct holdings held(void) {
    struct holdings held = {.descriptors = count_descriptors(), .pieces = pieces};
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[8192];

    CHECK(maps);
    while (fgets(line, sizeof(line), maps))
        held.mappings += strstr(line, "bpf") != NULL;
    fclose(maps);
    return held;
}

static int child(void (*life)(void), enum kind kind, long n) {
    struct holdings before = held();

    failing = kind;
    left = n;
    life();
    left = -1;
    struct holdings after = held();
    if (memcmp(&before, &after, sizeof(before)) != 0) {
        fprintf(stderr, "%d descriptors, %d mappings, %ld pieces of memory stayed\n",
                after.descriptors - before.descriptors, after.mappings - before.mappings,
                after.pieces - before.pieces);
        die(__FILE__, __LINE__, failed ? failed : "nothing failed", NULL);
    }
    if (!failed)
        return NOT_REACHED;
    failed = NULL;
    live_shortly();
    CHECK(count_descriptors() == before.descriptors);
    return SURVIVED;
}

// A running child and its output.
struct started {
    pid_t pid;
    int output;
};

static struct started start_child(void (*life)(void), enum kind kind, long n) {
    struct started started = {.output = memfd_create("child", MFD_CLOEXEC)};

    CHECK(started.output >= 0);
    started.pid = fork();
    CHECK(started.pid >= 0);
    if (started.pid == 0) {
        alarm(60);
        dup2(started.output, STDERR_FILENO);
        _exit(child(life, kind, n));
    }
    return started;
}

static int end_of(struct started started, char said[4096]) {
    int status;

    CHECK(waitpid(started.pid, &status, 0) == started.pid);
    ssize_t len = pread(started.output, said, 4095, 0);
    said[len > 0 ? len : 0] = 0;
    close(started.output);
    return status;
}

// Rust's message.
static bool is_end_because_of_memory(int status, const char *said) {
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, "memory allocation of ");
}

static const char *const WHAT[] = {"calls into the kernel", "allocations by C", "allocations by Rust"};

// Counts of finished cycles.
struct ended {
    long survived, out_of_memory, not_reached;
};

static void take_end(struct ended *ended, enum kind kind, long n, struct started started) {
    static char said[4096];
    int status = end_of(started, said);

    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_REACHED) {
        ended->not_reached++;
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED) {
        ended->survived++;
    } else if (kind == RUST_ALLOCATION && is_end_because_of_memory(status, said)) {
        ended->out_of_memory++;
    } else {
        fprintf(stderr, "the life in which number %ld of the %s failed ended with %x:\n%s", n, WHAT[kind],
                status, said);
        exit(1);
    }
}

// Runs several cycles in parallel, because most of a cycle is waiting for the kernel to free a program.
static void survives_each_fault(void (*life)(void), const char *whose, enum kind kind) {
    enum { AT_A_TIME = 8 };
    // Rust makes thousands of small allocations, whose failures all end in the same way.
    long step = kind == RUST_ALLOCATION ? 16 : 1;
    struct ended ended = {0};
    struct started started[AT_A_TIME];

    for (long n = 0; !ended.not_reached; n += AT_A_TIME * step) {
        for (int i = 0; i < AT_A_TIME; i++)
            started[i] = start_child(life, kind, n + i * step);
        for (int i = 0; i < AT_A_TIME; i++)
            take_end(&ended, kind, n + i * step, started[i]);
    }
    fprintf(stderr, "%s: one of the %s failed in each of %ld lives, %ld of them ended by that\n", whose,
            WHAT[kind], ended.survived + ended.out_of_memory, ended.out_of_memory);
    CHECK(ended.survived + ended.out_of_memory > 10);
}

int main(int argc, char **argv) {
    const struct rlimit none = {0, 0};

    begin(argc, argv);
    CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
    make_versions();
    live();
    live_replace();
    live_phases();
    live_export();
    live_of_a_guest();
    for (enum kind kind = CALL; kind <= RUST_ALLOCATION; kind++) {
        survives_each_fault(live, "a package", kind);
        survives_each_fault(live_replace, "a replaced package", kind);
        survives_each_fault(live_phases, "a package that is replaced in phases", kind);
        survives_each_fault(live_export, "a package that another vm reads", kind);
        survives_each_fault(live_of_a_guest, "a guest", kind);
    }
    return 0;
}
