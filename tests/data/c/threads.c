// One thread at a time, and the functions that any thread may call at any time.
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

static eunomia_vm *vm;

// A thread that sleeps in eunomia_poll until it is stopped.
struct poller {
    pthread_t thread;
    volatile long tid;
    int status;
};

static void *poll_for_ever(void *arg) {
    struct poller *poller = arg;
    poller->tid = syscall(SYS_gettid);
    poller->status = eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL);
    return NULL;
}

static bool is_asleep(long tid) {
    char path[64], line[512] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%ld/syscall", tid);
    FILE *file = fopen(path, "r");
    bool read = file && fgets(line, sizeof(line), file);
    if (file)
        fclose(file);
    // The number of the system call that the thread sleeps in, or "running".
    return read && (atoi(line) == SYS_epoll_wait || atoi(line) == SYS_epoll_pwait || atoi(line) == 441);
}

static void start_poller(struct poller *poller) {
    poller->tid = 0;
    CHECK(pthread_create(&poller->thread, NULL, poll_for_ever, poller) == 0);
    while (!poller->tid || !is_asleep(poller->tid))
        usleep(1000);
}

static int join(struct poller *poller) {
    CHECK(pthread_join(poller->thread, NULL) == 0);
    return poller->status;
}

#define BUSY(call) CHECK_STATUS(EUNOMIA_ERR_BUSY, call)

static void call_functions_for_one_thread(void) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
    eunomia_prog_info prog = EUNOMIA_INIT(eunomia_prog_info);
    eunomia_source_info source = EUNOMIA_INIT(eunomia_source_info);
    const char *out, *argv[] = {"x"};
    char buf[8] = {0};
    size_t len = sizeof(buf);
    BUSY(eunomia_open(vm, "{}", 2, EUNOMIA_KIND_ANY));
    BUSY(eunomia_open_file(vm, "x", EUNOMIA_KIND_ANY));
    BUSY(eunomia_open_object(vm, "x", 1, NULL));
    BUSY(eunomia_load(vm));
    BUSY(eunomia_attach(vm));
    BUSY(eunomia_detach(vm));
    BUSY(eunomia_var_set_json(vm, "burst", "1"));
    BUSY(eunomia_var_set(vm, "burst", buf, 4));
    BUSY(eunomia_var_get_json(vm, "burst", &out));
    BUSY(eunomia_var_get(vm, "burst", buf, &len));
    BUSY(eunomia_args_set(vm, 1, argv));
    BUSY(eunomia_args_help(vm, &out));
    BUSY(eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    BUSY(eunomia_poll_batch(vm, 0, ignore_batch, NULL));
    BUSY(eunomia_run(vm, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    BUSY(eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, buf, sizeof(buf), &batch));
    BUSY(eunomia_queue_start(vm, 0));
    BUSY(eunomia_queue_stop(vm));
    BUSY(eunomia_iter_each(vm, "on_call", ignore_event, NULL));
    BUSY(eunomia_wasm_run(vm, 1, argv, NULL, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    BUSY(eunomia_map_count(vm));
    BUSY(eunomia_map_at(vm, 0, &map));
    BUSY(eunomia_map_find(vm, "counts", &map));
    BUSY(eunomia_map_get(vm, "counts", buf, 4, buf + 4, 4));
    BUSY(eunomia_map_set(vm, "counts", buf, 4, buf, 8, 0));
    BUSY(eunomia_map_del(vm, "counts", buf, 4));
    BUSY(eunomia_map_next(vm, "counts", NULL, buf, 4));
    BUSY(eunomia_map_get_json(vm, "counts", "1", &out));
    BUSY(eunomia_map_set_json(vm, "counts", "1", "1", 0));
    BUSY(eunomia_map_del_json(vm, "counts", "1"));
    BUSY(eunomia_map_each(vm, "counts", EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    BUSY(eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_RAW, buf, sizeof(buf), &batch));
    BUSY(eunomia_describe(vm, &out, &len));
    BUSY(eunomia_source_count(vm));
    BUSY(eunomia_source_at(vm, 0, &source));
    BUSY(eunomia_prog_count(vm));
    BUSY(eunomia_prog_at(vm, 0, &prog));
    BUSY(eunomia_prog_find(vm, "on_call", &prog));
    BUSY(eunomia_prog_set_autoload(vm, "on_call", 1));
    BUSY(eunomia_prog_set_target_json(vm, "on_call", "{}"));
}

static void a_second_thread_gets_busy(void) {
    struct poller poller;
    start_poller(&poller);
    call_functions_for_one_thread();
    log_lines = 0;
    eunomia_destroy(vm);
    CHECK(log_lines == 1);
    CHECK_TEXT("destroy", log_line);
    eunomia_stop(vm);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, join(&poller));
}

static void busy_does_not_change_the_message(void) {
    const char *out;
    struct poller poller;
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_var_get_json(vm, "nothing", &out));
    start_poller(&poller);
    BUSY(eunomia_map_count(vm));
    CHECK_TEXT("in use by another thread", eunomia_errmsg(vm));
    CHECK(strcmp(eunomia_errdetail(vm), "") == 0 && eunomia_errsys(vm) == 0);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_stats_get(vm, NULL));
    syscall(SYS_getpgid, 0); // ends the poll with an event
    CHECK(join(&poller) > 0);
    CHECK_TEXT("nothing", eunomia_errmsg(vm));
}

static void any_thread_may_read_counters_and_stop(void) {
    struct poller poller;
    eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
    start_poller(&poller);
    CHECK_STATUS(EUNOMIA_OK, eunomia_stats_get(vm, &stats));
    CHECK(eunomia_epoll_fd(vm) >= 0);
    CHECK_STATUS(EUNOMIA_OK, eunomia_pause(vm, 1));
    CHECK_STATUS(EUNOMIA_OK, eunomia_pause(vm, 0));
    CHECK(eunomia_version() == EUNOMIA_VERSION_NUM);
    CHECK_TEXT("libbpf", eunomia_version_string());
    eunomia_stop(vm);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, join(&poller));
}

static atomic_int asked, answered;

// Calls eunomia_stop once for each requested round.
static void *stop_once_a_round(void *arg) {
    const int rounds = *(const int *)arg;
    for (int round = 1; round <= rounds; round++) {
        while (atomic_load(&asked) < round)
            ;
        eunomia_stop(vm);
        atomic_store(&answered, round);
    }
    return NULL;
}

// A stop that comes while another one is being reported is either reported with it, or later; until then the
// descriptor stays readable.
static void a_stop_during_a_report_is_complete(void) {
    pthread_t thread;
    struct pollfd fd = {.fd = eunomia_epoll_fd(vm), .events = POLLIN};
    int rounds = 10 * repeats;
    CHECK(pthread_create(&thread, NULL, stop_once_a_round, &rounds) == 0);
    for (int round = 1; round <= rounds; round++) {
        eunomia_stop(vm);
        atomic_store(&asked, round);
        CHECK_STATUS(EUNOMIA_ERR_STOPPED, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
        while (atomic_load(&answered) < round)
            ;
        bool readable = poll(&fd, 1, 0) == 1;
        int status = eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL);
        CHECK_STATUS(readable ? EUNOMIA_ERR_STOPPED : 0, status);
    }
    CHECK(pthread_join(thread, NULL) == 0);
}

static void *run_for_ever(void *arg) {
    struct poller *poller = arg;
    poller->tid = syscall(SYS_gettid);
    poller->status = eunomia_run(vm, EUNOMIA_FORMAT_JSON, ignore_event, NULL);
    return NULL;
}

static void stop_from_another_thread_ends_a_run(void) {
    struct poller poller = {0};
    CHECK(pthread_create(&poller.thread, NULL, run_for_ever, &poller) == 0);
    while (!poller.tid || !is_asleep(poller.tid))
        usleep(1000);
    eunomia_stop(vm);
    CHECK_STATUS(EUNOMIA_OK, join(&poller));
}

static void *use_the_vm(void *arg) {
    const char *out;
    (void)arg;
    CHECK_STATUS(EUNOMIA_OK, eunomia_var_get_json(vm, "burst", &out));
    trigger(vm, 2);
    CHECK(drain(vm) == 2);
    return NULL;
}

static void a_vm_may_move_between_threads(void) {
    pthread_t thread;
    use_the_vm(NULL);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&thread, NULL, use_the_vm, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    use_the_vm(NULL);
}

static volatile bool done;

static void *use_without_asking(void *arg) {
    int *answers = arg;
    const char *out;
    do {
        int status = eunomia_map_get_json(vm, "per_cpu", "0", &out);
        CHECK(status == EUNOMIA_OK || status == EUNOMIA_ERR_BUSY);
        *answers += 1;
    } while (!done);
    return NULL;
}

static void concurrent_misuse_fails_without_races(void) {
    pthread_t threads[4];
    int answers[4] = {0};
    done = false;
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, use_without_asking, &answers[i]) == 0);
    for (int i = 0; i < repeats; i++) {
        int status = eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL);
        CHECK(status >= 0 || status == EUNOMIA_ERR_BUSY);
        syscall(SYS_getpgid, 0);
    }
    done = true;
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0 && answers[i] > 0);
    drain(vm);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = running_vm();
    RUN(a_second_thread_gets_busy);
    RUN(busy_does_not_change_the_message);
    RUN(any_thread_may_read_counters_and_stop);
    RUN(a_stop_during_a_report_is_complete);
    RUN(stop_from_another_thread_ends_a_run);
    RUN(a_vm_may_move_between_threads);
    RUN(concurrent_misuse_fails_without_races);
    eunomia_destroy(vm);
    return 0;
}
