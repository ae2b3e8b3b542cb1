// A replace in phases.
#include "replaced.h"

#include <pthread.h>

static int prepare(eunomia_vm *vm, struct package by, uint32_t flags) {
    eunomia_replace_options options = EUNOMIA_INIT(eunomia_replace_options);
    options.flags = flags;
    return eunomia_prepare(vm, by.data, by.len, &options);
}

// The first of these calls opens a descriptor, which stays.
static int count_steady_descriptors(eunomia_vm *vm) {
    CHECK_STATUS(1, eunomia_drained(vm));
    return count_descriptors();
}

static void prepare_and_flip_are_a_replace(void) {
    eunomia_vm *vm = running();
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, 0));
    CHECK_TEXT("\"change\":\"swapped\",\"name\":\"on_call\"", eunomia_replace_report(vm));
    CHECK_TEXT("\"flip_ms\":0.000", eunomia_replace_report(vm));
    CHECK(version_of(vm) == 1 && stats_of(vm).replaces == 0);
    CHECK_STATUS(EUNOMIA_OK, eunomia_flip(vm));
    CHECK_TEXT("\"grace_complete\":true", eunomia_replace_report(vm));
    CHECK(version_of(vm) == 2 && stats_of(vm).replaces == 1);
    CHECK_STATUS(1, eunomia_drained(vm));
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, 0));
    CHECK_TEXT("\"unchanged\":true", eunomia_replace_report(vm));
    CHECK_STATUS(EUNOMIA_OK, eunomia_flip(vm));
    CHECK(version_of(vm) == 2 && stats_of(vm).replaces == 1);
    eunomia_destroy(vm);
}

static void a_prepared_version_excludes_others_and_can_be_given_up(void) {
    eunomia_vm *vm = running();
    int before = count_steady_descriptors(vm);
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_abort(vm));
    CHECK_TEXT("no version is prepared", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, 0));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, prepare(vm, second, 0));
    CHECK_TEXT("another version is being prepared", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, replace(vm, second, 0));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_commit(vm));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_rollback(vm));
    CHECK_STATUS(EUNOMIA_OK, eunomia_abort(vm));
    CHECK(version_of(vm) == 1 && count_descriptors() == before);
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_flip(vm));
    CHECK_TEXT("no version is prepared", eunomia_replace_report(vm));
    CHECK_STATUS(EUNOMIA_OK, replace(vm, second, 0));
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, first, 0));
    eunomia_destroy(vm); // unloads the prepared version
}

static void a_failed_flip_gives_the_version_up(void) {
    eunomia_vm *vm = running();
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, 0));
    ok(vm, eunomia_detach(vm));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_flip(vm));
    CHECK_TEXT("not attached", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_abort(vm));
    ok(vm, eunomia_attach(vm));
    CHECK(version_of(vm) == 1);
    CHECK_STATUS(EUNOMIA_OK, replace(vm, second, 0));
    eunomia_destroy(vm);
}

static void a_kept_version_can_come_back_until_it_is_committed(void) {
    eunomia_vm *vm = running();
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_commit(vm));
    CHECK_TEXT("no old version is kept", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_rollback(vm));
    CHECK_STATUS(EUNOMIA_OK, replace(vm, second, EUNOMIA_REPLACE_KEEP_OLD));
    CHECK(version_of(vm) == 2);
    CHECK_STATUS(EUNOMIA_ERR_STATE, prepare(vm, first, 0));
    CHECK_TEXT("commit or roll back", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_OK, eunomia_rollback(vm));
    CHECK_TEXT("\"programs\":[]", eunomia_replace_report(vm));
    CHECK(version_of(vm) == 1);
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, EUNOMIA_REPLACE_KEEP_OLD));
    CHECK_STATUS(EUNOMIA_OK, eunomia_flip(vm));
    CHECK_STATUS(EUNOMIA_OK, eunomia_commit(vm));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_rollback(vm));
    CHECK(version_of(vm) == 2);
    eunomia_destroy(vm);
}

static int call_inside(void *arg, const eunomia_event *event) {
    (void)event;
    CHECK_STATUS(EUNOMIA_ERR_BUSY, prepare(arg, second, 0));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_flip(arg));
    CHECK_TEXT("callback", eunomia_errmsg(arg));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_commit(arg));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_rollback(arg));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_drained(arg));
    return 0;
}

static void a_callback_cannot_change_versions(void) {
    eunomia_vm *vm = running();
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, 0));
    call(1);
    CHECK_STATUS(1, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, call_inside, vm));
    CHECK(version_of(vm) == 1);
    eunomia_destroy(vm);
}

static void failures_are_told_to_the_thread_that_made_them(void) {
    struct poller poller = {running(), {0, 0, 0}};
    struct package garbage = {"garbage", 7};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, poll_until_stopped, &poller) == 0);
    while (stats_of(poller.vm).events == 0)
        call(1);
    CHECK_STATUS(EUNOMIA_ERR_PACKAGE, prepare(poller.vm, garbage, 0));
    CHECK_TEXT("not a package", eunomia_errmsg(poller.vm));
    CHECK_STATUS(EUNOMIA_ERR_TYPE, prepare(poller.vm, second, EUNOMIA_REPLACE_STRICT_MAPS));
    const char *name;
    CHECK(eunomia_errsubject(poller.vm, &name) == EUNOMIA_SUBJECT_MAP && strcmp(name, "resized") == 0);
    CHECK_STATUS(EUNOMIA_OK, prepare(poller.vm, second, 0));
    CHECK_STATUS(EUNOMIA_OK, eunomia_flip(poller.vm));
    eunomia_stop(poller.vm);
    CHECK(pthread_join(thread, NULL) == 0);
    // The next failure of this thread replaces the message.
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, eunomia_var_set_json(poller.vm, "none", "1"));
    CHECK_TEXT("none", eunomia_errmsg(poller.vm));
    eunomia_destroy(poller.vm);
}

int main(int argc, char **argv) {
    begin_replaced(argc, argv);
    RUN(prepare_and_flip_are_a_replace);
    RUN(a_prepared_version_excludes_others_and_can_be_given_up);
    RUN(a_failed_flip_gives_the_version_up);
    RUN(a_kept_version_can_come_back_until_it_is_committed);
    RUN(a_callback_cannot_change_versions);
    RUN(failures_are_told_to_the_thread_that_made_them);
    end_replaced();
    return 0;
}
