// eunomia_epoll_fd in an event loop of the host: level-triggered, and the same descriptor all the time.
#include "test.h"

#include <sys/epoll.h>

static eunomia_vm *vm;
static int loop;

static bool is_readable(int timeout_ms) {
    struct epoll_event event;
    int count = epoll_wait(loop, &event, 1, timeout_ms);
    CHECK(count >= 0);
    CHECK(count == 0 || event.data.ptr == vm);
    return count == 1;
}

static void watch(void) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = vm}};
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, eunomia_epoll_fd(vm), &event) == 0);
}

static int poll_now(void) {
    return eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL);
}

static void the_descriptor_never_changes(void) {
    eunomia_vm *other = empty_vm();
    int fd = eunomia_epoll_fd(other);
    CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    ok(other, eunomia_open_file(other, package_path("calls.json"), EUNOMIA_KIND_ANY));
    CHECK(eunomia_epoll_fd(other) == fd);
    start(other);
    CHECK(eunomia_epoll_fd(other) == fd);
    ok(other, eunomia_detach(other));
    ok(other, eunomia_attach(other));
    CHECK(eunomia_epoll_fd(other) == fd);
    eunomia_destroy(other);
    CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
}

static void an_idle_vm_is_not_readable(void) {
    CHECK(!is_readable(0));
    CHECK_STATUS(0, poll_now());
    CHECK(!is_readable(50));
}

static void events_make_it_readable_until_all_are_delivered(void) {
    trigger(vm, 3);
    CHECK(is_readable(-1));
    CHECK(is_readable(0)); // level-triggered, not edge-triggered
    CHECK_STATUS(2, poll_now());
    CHECK(is_readable(0));
    CHECK_STATUS(1, poll_now());
    CHECK(!is_readable(0));
}

static int end_now(void *arg, const eunomia_event *event) {
    (void)arg;
    (void)event;
    return 1;
}

static void an_ended_poll_leaves_it_readable(void) {
    trigger(vm, 2);
    CHECK_STATUS(1, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, end_now, NULL));
    CHECK(is_readable(0));
    CHECK_STATUS(1, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, end_now, NULL));
    CHECK_STATUS(0, poll_now());
    CHECK(!is_readable(0));
}

static void a_stop_makes_it_readable_until_reported(void) {
    eunomia_stop(vm);
    CHECK(is_readable(-1));
    CHECK(is_readable(0));
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, poll_now());
    CHECK(!is_readable(0));
}

static void a_pause_makes_it_unreadable_but_for_a_stop(void) {
    CHECK_STATUS(EUNOMIA_OK, eunomia_pause(vm, 1));
    trigger(vm, 2);
    CHECK(!is_readable(0));
    CHECK_STATUS(0, poll_now());
    eunomia_stop(vm);
    CHECK(is_readable(-1));
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, poll_now());
    CHECK(!is_readable(0));
    CHECK_STATUS(EUNOMIA_OK, eunomia_pause(vm, 0));
    CHECK(is_readable(-1));
    CHECK_STATUS(2, poll_now());
}

static void a_record_kept_by_read_is_readable(void) {
    eunomia_batch batch = EUNOMIA_INIT(eunomia_batch);
    char small[8];
    trigger(vm, 1);
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL,
                 eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, small, sizeof(small), &batch));
    CHECK(is_readable(0));
    CHECK_STATUS(1, poll_now());
    CHECK(!is_readable(0));
}

static void a_queue_makes_it_readable_too(void) {
    ok(vm, eunomia_queue_start(vm, 0));
    CHECK(!is_readable(0));
    trigger(vm, 1);
    CHECK(is_readable(-1));
    CHECK_STATUS(1, poll_now());
    CHECK(!is_readable(0));
    eunomia_stop(vm);
    CHECK(is_readable(-1));
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, poll_now());
    ok(vm, eunomia_queue_stop(vm));
    trigger(vm, 1);
    CHECK(is_readable(-1));
    CHECK_STATUS(1, poll_now());
    CHECK(!is_readable(0));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = running_vm_with(2);
    loop = epoll_create1(EPOLL_CLOEXEC);
    watch();
    RUN(the_descriptor_never_changes);
    RUN(an_idle_vm_is_not_readable);
    RUN(events_make_it_readable_until_all_are_delivered);
    RUN(an_ended_poll_leaves_it_readable);
    RUN(a_stop_makes_it_readable_until_reported);
    RUN(a_pause_makes_it_unreadable_but_for_a_stop);
    RUN(a_record_kept_by_read_is_readable);
    RUN(a_queue_makes_it_readable_too);
    eunomia_destroy(vm);
    close(loop);
    return 0;
}
