// eunomia_stop: kept until it is reported once; several stops count as one; also from signal handlers.
#include "test.h"

#include <signal.h>
#include <sys/time.h>

static eunomia_vm *vm;
static volatile sig_atomic_t signals, stop_at;

#define POLL(timeout) eunomia_poll(vm, timeout, EUNOMIA_FORMAT_RAW, ignore_event, NULL)

static void on_signal(int number) {
    (void)number;
    errno = 1234;
    if (++signals >= stop_at)
        eunomia_stop(vm);
    CHECK(errno == 1234);
}

// Sends a signal every 20 ms; the `stops`-th one stops the vm.
static void start_signals(int stops) {
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerval timer = {.it_interval = {.tv_usec = 20000}, .it_value = {.tv_usec = 20000}};
    signals = 0;
    stop_at = stops;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void end_signals(void) {
    struct itimerval never = {.it_value = {.tv_usec = 0}};
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

static void stop_is_kept_until_reported_once(void) {
    eunomia_stop(vm);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, POLL(-1));
    CHECK_STATUS(0, POLL(0));
}

static void several_stops_count_as_one(void) {
    for (int i = 0; i < 5; i++)
        eunomia_stop(vm);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, POLL(-1));
    CHECK_STATUS(0, POLL(0));
}

static void stop_before_open_ends_the_load(void) {
    eunomia_vm *other = empty_vm();
    eunomia_stop(other);
    ok(other, eunomia_open_file(other, package_path("calls.json"), EUNOMIA_KIND_ANY));
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, eunomia_load(other));
    start(other);
    CHECK_STATUS(0, eunomia_poll(other, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    eunomia_destroy(other);
}

static void other_calls_do_not_consume_a_stop(void) {
    const char *out;
    eunomia_stop(vm);
    ok(vm, eunomia_var_get_json(vm, "burst", &out));
    ok(vm, eunomia_map_each(vm, "per_cpu", EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, POLL(0));
}

static void events_are_not_lost_by_a_stop(void) {
    trigger(vm, 3);
    eunomia_stop(vm);
    int status = POLL(-1);
    CHECK(status == EUNOMIA_ERR_STOPPED || status == 3);
    if (status == 3)
        CHECK_STATUS(EUNOMIA_ERR_STOPPED, POLL(0));
    CHECK(drain(vm) == (status == 3 ? 0 : 3));
}

static void run_reports_a_stop_as_success(void) {
    eunomia_stop(vm);
    CHECK_STATUS(EUNOMIA_OK, eunomia_run(vm, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_STATUS(0, POLL(0));
}

static void read_reports_a_stop(void) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    uint64_t room[8];
    eunomia_stop(vm);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, eunomia_read(vm, -1, EUNOMIA_FORMAT_RAW, room, sizeof(room), &batch));
    CHECK_STATUS(0, POLL(0));
}

static void a_signal_handler_stops_a_poll(void) {
    start_signals(1);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, POLL(-1));
    end_signals();
    CHECK(signals >= 1);
    POLL(0);
}

static void a_signal_that_does_not_stop_does_not_end_a_poll(void) {
    start_signals(3);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, POLL(-1));
    end_signals();
    CHECK(signals >= 3);
    POLL(0);
}

static void a_signal_does_not_shorten_a_poll(void) {
    start_signals(1 << 30);
    CHECK_STATUS(0, POLL(300));
    end_signals();
    CHECK(signals >= 2);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = running_vm();
    RUN(stop_is_kept_until_reported_once);
    RUN(several_stops_count_as_one);
    RUN(stop_before_open_ends_the_load);
    RUN(other_calls_do_not_consume_a_stop);
    RUN(events_are_not_lost_by_a_stop);
    RUN(run_reports_a_stop_as_success);
    RUN(read_reports_a_stop);
    RUN(a_signal_handler_stops_a_poll);
    RUN(a_signal_that_does_not_stop_does_not_end_a_poll);
    RUN(a_signal_does_not_shorten_a_poll);
    eunomia_destroy(vm);
    return 0;
}
