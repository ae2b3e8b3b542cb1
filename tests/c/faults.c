// The n-th call into the kernel fails, for each n until a whole life of a vm gets by without: the call that
// failed because of it says so and does its work when asked again, nothing is left open, and the next vm
// lives as if nothing had been. Each life is a process of its own, in which libbpf knows already what this
// kernel can do: it finds that out by trying, once for a process, and takes what failed then for want of
// memory for missing ever after.
#include "test.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

// What a child tells when all went well, and when no call was left to fail.
enum { SURVIVED = 0, NOT_REACHED = 3 };

// Calls until the one that fails; negative: none will.
static long left = -1;
static const char *failed;

static bool fails(const char *name, int number) {
    if (left < 0 || left-- > 0)
        return false;
    failed = name;
    errno = number;
    return true;
}

// The program's functions stand before those of the C library, also for the library under test.
#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

long syscall(long number, ...) {
    long args[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (fails("syscall", number == SYS_bpf ? ENOMEM : EMFILE))
        return -1;
    return REAL(syscall)(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

void *mmap(void *address, size_t len, int access, int flags, int fd, off_t offset) {
    return fails("mmap", ENOMEM) ? MAP_FAILED : REAL(mmap)(address, len, access, flags, fd, offset);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list list;

    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    return fails("ioctl", ENOMEM) ? -1 : REAL(ioctl)(fd, request, argument);
}

int epoll_create1(int flags) {
    return fails("epoll_create1", EMFILE) ? -1 : REAL(epoll_create1)(flags);
}

int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    // What is taken out goes with its descriptor.
    if (operation == EPOLL_CTL_ADD && fails("epoll_ctl", ENOSPC))
        return -1;
    return REAL(epoll_ctl)(set, operation, fd, event);
}

int eventfd(unsigned int value, int flags) {
    return fails("eventfd", EMFILE) ? -1 : REAL(eventfd)(value, flags);
}

int timerfd_create(int clock, int flags) {
    return fails("timerfd_create", EMFILE) ? -1 : REAL(timerfd_create)(clock, flags);
}

int memfd_create(const char *name, unsigned int flags) {
    return fails("memfd_create", EMFILE) ? -1 : REAL(memfd_create)(name, flags);
}

int open64(const char *path, int flags, ...) {
    va_list list;

    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return fails("open64", EMFILE) ? -1 : REAL(open64)(path, flags, mode);
}

// ---- a life, step by step
// ------------------------------------------------------------------------------------

static int events;

static int step_open(eunomia_vm *vm) {
    return eunomia_open_file(vm, package_path("calls.json"), EUNOMIA_KIND_ANY);
}

static int step_set(eunomia_vm *vm) {
    uint32_t pid = (uint32_t)getpid();
    return eunomia_var_set(vm, "target", &pid, sizeof(pid));
}

static int step_events(eunomia_vm *vm) {
    uint32_t burst = 3;
    int status = eunomia_var_set(vm, "burst", &burst, sizeof(burst));

    if (status < 0)
        return status;
    getpgid(0);
    return eunomia_poll(vm, 1000, EUNOMIA_FORMAT_JSON, count_event, &events);
}

static int step_map(eunomia_vm *vm) {
    return eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_JSON, ignore_event, NULL);
}

static int (*const STEPS[])(eunomia_vm *) = {
    step_open, step_set,       eunomia_load, eunomia_attach, step_events,
    step_map,  eunomia_detach, step_map,     eunomia_attach, step_events,
};

// A failure is the one that was asked for, has words, and is no more when the call is repeated.
static void take(eunomia_vm *vm, size_t step) {
    int status = STEPS[step](vm);

    if (status >= 0)
        return;
    if (!failed || !eunomia_errmsg(vm)[0])
        die(__FILE__, (int)step, "a step failed for no reason", eunomia_errmsg(vm));
    status = STEPS[step](vm);
    if (status < 0)
        die(__FILE__, (int)step, failed, eunomia_errmsg(vm));
}

static void live(void) {
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    eunomia_vm *vm = NULL;

    options.log = keep_log;
    if (eunomia_new(&vm, &options) < 0) {
        CHECK(failed && !vm);
        CHECK_STATUS(EUNOMIA_OK, eunomia_new(&vm, &options));
    }
    events = 0;
    for (size_t step = 0; step < sizeof(STEPS) / sizeof(STEPS[0]); step++)
        take(vm, step);
    CHECK(events == 6);
    eunomia_destroy(vm);
}

static int run_guest(eunomia_vm *vm) {
    static const char *const argv[] = {"guest", "one", NULL};
    return eunomia_wasm_run(vm, 2, argv, NULL, EUNOMIA_FORMAT_JSON, ignore_event, NULL);
}

static void live_of_a_guest(void) {
    eunomia_vm *vm = NULL;

    if (eunomia_new(&vm, NULL) < 0) {
        CHECK(failed && !vm);
        CHECK_STATUS(EUNOMIA_OK, eunomia_new(&vm, NULL));
    }
    const char *path = package_path("hello.wasm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_ANY) < 0) {
        CHECK(failed && eunomia_errmsg(vm)[0]);
        ok(vm, eunomia_open_file(vm, path, EUNOMIA_KIND_ANY));
    }
    if (run_guest(vm) < 0) {
        CHECK(failed && eunomia_errmsg(vm)[0]);
        ok(vm, run_guest(vm));
    }
    eunomia_destroy(vm);
}

static int child(void (*life)(void), long n) {
    int before = count_descriptors();

    left = n;
    life();
    left = -1;
    CHECK(count_descriptors() == before);
    if (!failed)
        return NOT_REACHED;
    failed = NULL;
    life();
    CHECK(count_descriptors() == before);
    return SURVIVED;
}

static void survives_each_fault(void (*life)(void), const char *name) {
    for (long n = 0;; n++) {
        fflush(NULL);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            _exit(child(life, n));
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_REACHED) {
            fprintf(stderr, "%s: each of %ld calls has failed once\n", name, n);
            CHECK(n > 10);
            return;
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != SURVIVED) {
            fprintf(stderr, "%s: call %ld into the kernel failed, and the life ended with %x\n", name, n,
                    status);
            exit(1);
        }
    }
}

int main(int argc, char **argv) {
    begin(argc, argv);
    live();
    live_of_a_guest();
    survives_each_fault(live, "a package");
    survives_each_fault(live_of_a_guest, "a guest");
    return 0;
}
