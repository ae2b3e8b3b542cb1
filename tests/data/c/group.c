// eunomia_group_*: many vms, polled with one call.
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define VMS 3

// A member: its vm, and what was delivered.
struct member {
    eunomia_vm *vm;
    int events;
};

static struct member members[VMS];
static eunomia_group *group;

static struct member *of(const eunomia_event *event) {
    CHECK(event->size == sizeof(*event) && event->member);
    return event->member;
}

static int count(void *arg, const eunomia_event *event) {
    CHECK(arg == &group && event->kind == EUNOMIA_EVENT_SAMPLE);
    CHECK(event->len == sizeof(struct call_event) && event->type && !strcmp(event->source, "events"));
    of(event)->events++;
    return 0;
}

static int poll_now(eunomia_event_fn callback) {
    return eunomia_group_poll(group, 0, EUNOMIA_FORMAT_RAW, callback, &group);
}

static bool is_readable(void) {
    struct pollfd polled = {.fd = eunomia_group_epoll_fd(group), .events = POLLIN};
    return poll(&polled, 1, 0) == 1;
}

static void set_burst(int index, uint32_t burst) {
    ok(members[index].vm, eunomia_var_set(members[index].vm, "burst", &burst, sizeof(burst)));
}

static void join(int index) {
    CHECK_STATUS(EUNOMIA_OK, eunomia_group_add(group, members[index].vm, &members[index]));
}

// Replaces the vm of a member that was destroyed.
static void renew(int index) {
    members[index].vm = running_vm();
    join(index);
}

static void call(void) {
    for (int i = 0; i < VMS; i++)
        members[i].events = 0;
    syscall(SYS_getpgid, 0);
}

static void check_counts(int first, int second, int third) {
    CHECK(members[0].events == first && members[1].events == second && members[2].events == third);
}

static void each_event_has_its_member(void) {
    for (int i = 0; i < VMS; i++)
        set_burst(i, (uint32_t)i + 1);
    CHECK(!is_readable());
    CHECK_STATUS(0, poll_now(count));
    for (int i = 0; i < repeats; i++) {
        call();
        CHECK_STATUS(6, eunomia_group_poll(group, -1, EUNOMIA_FORMAT_RAW, count, &group));
        check_counts(1, 2, 3);
    }
    call();
    CHECK(is_readable());
    CHECK_STATUS(6, poll_now(count));
    CHECK_STATUS(0, poll_now(count));
    CHECK(!is_readable());
}

static int expect_no_member(void *arg, const eunomia_event *event) {
    CHECK(!event->member);
    ++*(int *)arg;
    return 0;
}

static void other_calls_deliver_without_a_member(void) {
    int events = 0;
    call();
    CHECK_STATUS(2, eunomia_poll(members[1].vm, 0, EUNOMIA_FORMAT_JSON, expect_no_member, &events));
    CHECK_STATUS(4, poll_now(count));
    check_counts(1, 0, 3);
    CHECK(events == 2);
}

static void invalid_arguments_fail(void) {
    void *member = &member;
    eunomia_vm *vm = members[0].vm;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_new(NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_add(NULL, vm, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_add(group, NULL, NULL));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_group_add(group, vm, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_remove(NULL, vm));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_remove(group, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_poll(NULL, 0, EUNOMIA_FORMAT_RAW, count, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_poll(group, 0, EUNOMIA_FORMAT_RAW, NULL, NULL));
    CHECK_TEXT("callback is null", eunomia_group_errmsg(group, &member));
    CHECK(!member);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_poll(group, 0, 9, count, NULL));
    CHECK_TEXT("unknown format 9", eunomia_group_errmsg(group, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_group_epoll_fd(NULL));
    CHECK_TEXT("group is null", eunomia_group_errmsg(NULL, &member));
    eunomia_group_stop(NULL);
    eunomia_group_destroy(NULL);
}

static void a_vm_is_in_one_group(void) {
    eunomia_group *other;
    CHECK_STATUS(EUNOMIA_OK, eunomia_group_new(&other));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_group_add(other, members[0].vm, NULL));
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_group_remove(other, members[0].vm));
    CHECK_STATUS(EUNOMIA_OK, eunomia_group_remove(group, members[0].vm));
    CHECK_STATUS(EUNOMIA_OK, eunomia_group_add(other, members[0].vm, NULL));
    eunomia_group_destroy(other);
    join(0);
}

static int fail(void *arg, const eunomia_event *event) {
    (void)event;
    return *(int *)arg;
}

static void a_callback_ends_the_poll(void) {
    for (int result = -1; result <= 1; result += 2) {
        call();
        int status = eunomia_group_poll(group, 0, EUNOMIA_FORMAT_RAW, fail, &result);
        CHECK_STATUS(result < 0 ? EUNOMIA_ERR_CALLBACK : 1, status);
        CHECK(is_readable());
        CHECK_STATUS(5, poll_now(count));
    }
}

// The action of a callback at its first event.
static int (*act)(const struct member *member);

static int act_once(void *arg, const eunomia_event *event) {
    int (*now)(const struct member *) = act;
    act = NULL;
    count(arg, event);
    return now ? now(of(event)) : 0;
}

static int poll_acting(int (*action)(const struct member *member)) {
    act = action;
    return poll_now(act_once);
}

static int destroy_the_others(const struct member *member) {
    for (int i = 0; i < VMS; i++) {
        if (&members[i] != member)
            eunomia_destroy(members[i].vm);
    }
    return 0;
}

static void a_callback_may_destroy_other_members(void) {
    call();
    int first = poll_acting(destroy_the_others), survivor = 0;
    while (!members[survivor].events)
        survivor++;
    CHECK(first == members[survivor].events && first == survivor + 1);
    CHECK_STATUS(0, poll_now(count));
    call();
    CHECK_STATUS(first, poll_now(count));
    for (int i = 0; i < VMS; i++) {
        if (i != survivor)
            renew(i);
        set_burst(i, (uint32_t)i + 1);
    }
}

static int destroy_itself(const struct member *member) {
    eunomia_destroy(member->vm); // refused
    CHECK_TEXT("refused", log_line);
    CHECK_STATUS(EUNOMIA_ERR_BUSY, poll_now(count));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_poll(member->vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_detach(member->vm));
    eunomia_group_destroy(group); // does nothing
    CHECK(eunomia_map_count(member->vm) > 0);
    return 0;
}

static void a_callback_cannot_destroy_its_own_member(void) {
    call();
    CHECK_STATUS(6, poll_acting(destroy_itself));
    check_counts(1, 2, 3);
}

static int remove_itself(const struct member *member) {
    CHECK_STATUS(EUNOMIA_OK, eunomia_group_remove(group, member->vm));
    return 0;
}

static void a_removed_member_delivers_nothing_more(void) {
    for (int i = 0; i < VMS; i++)
        set_burst(i, 3);
    call();
    int all = poll_acting(remove_itself), removed = 0;
    while (members[removed].events != 1)
        removed++;
    all += poll_now(count);
    CHECK(all == 1 + 3 + 3);
    join(removed);
    CHECK_STATUS(2, poll_now(count));
    CHECK(members[removed].events == 3);
    for (int i = 0; i < VMS; i++)
        set_burst(i, (uint32_t)i + 1);
}

static void a_stopped_vm_leaves_the_group(void) {
    void *member;
    call();
    eunomia_stop(members[1].vm);
    // Other events may be delivered before.
    while (is_readable() && poll_now(count) >= 0)
        ;
    CHECK_TEXT("stop was called", eunomia_group_errmsg(group, &member));
    CHECK(member == &members[1]);
    while (poll_now(count) != 0)
        ;
    check_counts(1, 0, 3);
    eunomia_group_errmsg(group, &member);
    CHECK(!member);
    join(1);
    CHECK_STATUS(2, poll_now(count));
}

static void *stop_soon(void *arg) {
    usleep(20000);
    eunomia_group_stop(arg);
    return NULL;
}

static void a_stop_ends_one_poll(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, stop_soon, group) == 0);
    CHECK_STATUS(EUNOMIA_ERR_STOPPED, eunomia_group_poll(group, -1, EUNOMIA_FORMAT_RAW, count, &group));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_STATUS(0, eunomia_group_poll(group, 1, EUNOMIA_FORMAT_RAW, count, &group));
}

static void *destroy_soon(void *arg) {
    usleep(1000);
    eunomia_destroy(arg);
    return NULL;
}

static volatile bool is_inside;

static int be_slow(void *arg, const eunomia_event *event) {
    is_inside = true;
    usleep(200);
    count(arg, event);
    is_inside = false;
    return 0;
}

// Under valgrind and the sanitizers, a use after the free would show.
static void another_thread_may_destroy_a_member(void) {
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        set_burst(2, 30);
        call();
        CHECK(pthread_create(&thread, NULL, destroy_soon, members[2].vm) == 0);
        while (eunomia_group_poll(group, 5, EUNOMIA_FORMAT_RAW, be_slow, &group) > 0)
            ;
        CHECK(pthread_join(thread, NULL) == 0);
        renew(2);
    }
    set_burst(2, 3);
}

static void a_child_leaves_the_group_of_its_parent_alone(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        for (int i = 0; i < VMS; i++)
            eunomia_destroy(members[i].vm);
        eunomia_group_destroy(group);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    call();
    CHECK(is_readable());
    CHECK_STATUS(6, poll_now(count));
}

static void members_and_groups_leave_no_descriptors(void) {
    int before = count_descriptors();
    for (int i = 0; i < 20; i++) {
        eunomia_group *other;
        eunomia_vm *vm = empty_vm();
        CHECK_STATUS(EUNOMIA_OK, eunomia_group_new(&other));
        CHECK_STATUS(EUNOMIA_OK, eunomia_group_add(other, vm, NULL));
        CHECK_STATUS(0, eunomia_group_poll(other, 0, EUNOMIA_FORMAT_RAW, count, &group));
        if (i % 2)
            eunomia_destroy(vm);
        eunomia_group_destroy(other);
        if (i % 2 == 0)
            eunomia_destroy(vm);
    }
    CHECK(count_descriptors() == before);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    CHECK_STATUS(EUNOMIA_OK, eunomia_group_new(&group));
    for (int i = 0; i < VMS; i++)
        renew(i);
    RUN(each_event_has_its_member);
    RUN(other_calls_deliver_without_a_member);
    RUN(invalid_arguments_fail);
    RUN(a_vm_is_in_one_group);
    RUN(a_callback_ends_the_poll);
    RUN(a_callback_may_destroy_other_members);
    RUN(a_callback_cannot_destroy_its_own_member);
    RUN(a_removed_member_delivers_nothing_more);
    RUN(a_stopped_vm_leaves_the_group);
    RUN(a_stop_ends_one_poll);
    RUN(another_thread_may_destroy_a_member);
    RUN(a_child_leaves_the_group_of_its_parent_alone);
    RUN(members_and_groups_leave_no_descriptors);
    for (int i = 0; i < VMS; i++)
        eunomia_destroy(members[i].vm);
    eunomia_group_destroy(group);
    return 0;
}
