// Side effects of the library on its process: descriptors, fork, signals.
#include "test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define MANY 256

static void descriptors_are_close_on_exec(void) {
    bool before[MANY];
    int found = 0;
    for (int fd = 0; fd < MANY; fd++)
        before[fd] = fcntl(fd, F_GETFD) >= 0;
    eunomia_vm *vm = running_vm();
    ok(vm, eunomia_queue_start(vm, 0));
    for (int fd = 0; fd < MANY; fd++) {
        int flags = before[fd] ? -1 : fcntl(fd, F_GETFD);
        CHECK(flags < 0 || (flags & FD_CLOEXEC));
        found += flags >= 0;
    }
    CHECK(found > 5);
    eunomia_destroy(vm);
}

static void destroy_in_a_child(eunomia_vm *vm) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        eunomia_destroy(vm);
        // The resources of other threads and perf buffers stay in use until exec, also for a memory checker.
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void a_forked_child_may_destroy_its_copy(void) {
    eunomia_vm *vm = running_vm();
    destroy_in_a_child(vm);
    trigger(vm, 2);
    CHECK(drain(vm) == 2);
    ok(vm, eunomia_queue_start(vm, 0));
    destroy_in_a_child(vm);
    trigger(vm, 2);
    for (int events = 0; events < 2;)
        events += eunomia_poll(vm, -1, EUNOMIA_FORMAT_JSON, ignore_event, NULL);
    eunomia_destroy(vm);
}

static void a_forked_child_does_not_disable_a_perf_buffer(void) {
    size_t len;
    eunomia_vm *vm = empty_vm();
    char *object = read_file(package_path("perf.o"), &len);
    ok(vm, eunomia_open_object(vm, object, len, NULL));
    free(object);
    start(vm);
    destroy_in_a_child(vm);
    trigger(vm, 2);
    CHECK(drain(vm) == 2);
    eunomia_destroy(vm);
}

static void signal_handlers_are_unchanged(void) {
    struct sigaction before[NSIG], after;
    sigset_t mask_before, mask_after;
    for (int i = 1; i < NSIG; i++)
        before[i].sa_handler = sigaction(i, NULL, &before[i]) == 0 ? before[i].sa_handler : SIG_ERR;
    sigprocmask(SIG_SETMASK, NULL, &mask_before);
    eunomia_vm *vm = running_vm();
    ok(vm, eunomia_queue_start(vm, 0));
    trigger(vm, 1);
    ok(vm, eunomia_poll(vm, -1, EUNOMIA_FORMAT_JSON, ignore_event, NULL));
    sigprocmask(SIG_SETMASK, NULL, &mask_after);
    for (int i = 1; i < NSIG; i++) {
        CHECK(sigismember(&mask_before, i) == sigismember(&mask_after, i));
        CHECK(before[i].sa_handler == (sigaction(i, NULL, &after) == 0 ? after.sa_handler : SIG_ERR));
    }
    eunomia_destroy(vm);
}

static void new_without_descriptors_fails_with_a_message(void) {
    struct rlimit before, none;
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    eunomia_vm *vm = NULL;
    options.log = keep_log;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    none.rlim_cur = 3;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    errno = log_lines = 0;
    int status = eunomia_new(&vm, &options), reason = errno;
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_STATUS(EUNOMIA_ERR_SYSTEM, status);
    CHECK(!vm && reason == EMFILE && log_lines == 1);
    CHECK_TEXT("descriptors", log_line);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    RUN(descriptors_are_close_on_exec);
    RUN(a_forked_child_may_destroy_its_copy);
    RUN(a_forked_child_does_not_disable_a_perf_buffer);
    RUN(signal_handlers_are_unchanged);
    RUN(new_without_descriptors_fails_with_a_message);
    return 0;
}
