// A package in two processes: the second one has no privilege and reads the events.
#include "replaced.h"

#include <grp.h>
#include <pthread.h>
#include <sys/uio.h>
#include <sys/wait.h>

static int prepare(eunomia_vm *vm, struct package by, uint32_t flags) {
    eunomia_replace_options options = EUNOMIA_INIT(eunomia_replace_options);
    options.flags = flags;
    return eunomia_prepare(vm, by.data, by.len, &options);
}

static eunomia_exported export_of(eunomia_vm *vm, uint32_t flags) {
    eunomia_exported exported = EUNOMIA_INIT(eunomia_exported);
    ok(vm, eunomia_export(vm, flags, &exported));
    return exported;
}

static void close_all(const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++)
        CHECK(close(fds[i]) == 0);
}

// ---- one process ----

static void exported_descriptors_belong_to_the_caller(void) {
    eunomia_vm *vm = running();
    CHECK_STATUS(1, eunomia_drained(vm)); // opens a descriptor that stays
    int before = count_descriptors();
    eunomia_exported exported = EUNOMIA_INIT(eunomia_exported);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_export(vm, 4, &exported));
    CHECK_TEXT("flags is 0x4", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_export(vm, 0, NULL));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_export(vm, EUNOMIA_EXPORT_PREPARED, &exported));
    CHECK_TEXT("no version is prepared", eunomia_errmsg(vm));
    CHECK(!exported.description && version_of(vm) == 1); // still reads
    exported = export_of(vm, EUNOMIA_EXPORT_ALL);
    CHECK_TEXT("\nlink on_call", exported.description);
    CHECK_TEXT("\nprogram on_call\n", exported.description);
    size_t all = exported.count;
    CHECK(count_descriptors() == before + (int)all);
    close_all(exported.fds, all);
    exported = export_of(vm, 0);
    CHECK(!strstr(exported.description, "link") && exported.count < all);
    for (size_t i = 0; i < exported.count; i++)
        CHECK(fcntl(exported.fds[i], F_GETFD) == FD_CLOEXEC);
    close_all(exported.fds, exported.count);
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
    CHECK_STATUS(EUNOMIA_ERR_STATE, replace(vm, second, 0));
    CHECK_TEXT("another process reads", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, 0));
    exported = export_of(vm, EUNOMIA_EXPORT_PREPARED);
    close_all(exported.fds, exported.count);
    CHECK_STATUS(EUNOMIA_OK, eunomia_abort(vm));
    CHECK(count_descriptors() == before);
    ok(vm, eunomia_detach(vm));
    eunomia_destroy(vm);
}

static int export_inside(void *arg, const eunomia_event *event) {
    eunomia_exported exported = EUNOMIA_INIT(eunomia_exported);
    (void)event;
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_export(arg, EUNOMIA_EXPORT_PREPARED, &exported));
    CHECK_STATUS(EUNOMIA_ERR_BUSY, eunomia_export(arg, 0, &exported));
    return 0;
}

static void a_callback_cannot_export(void) {
    eunomia_vm *vm = running();
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, 0));
    call(1);
    CHECK_STATUS(1, eunomia_poll(vm, 0, EUNOMIA_FORMAT_RAW, export_inside, vm));
    CHECK(version_of(vm) == 1);
    eunomia_destroy(vm);
}

static void bad_descriptors_are_refused(void) {
    eunomia_vm *vm = running(), *reader = empty_vm();
    eunomia_exported good = export_of(vm, 0), bad = good;
    int fds[64];
    CHECK(good.count <= 64);
    memcpy(fds, good.fds, good.count * sizeof(int));
    bad.fds = fds;
    fds[0] = -1;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, first.data, first.len, &bad));
    CHECK_TEXT("descriptor -1", eunomia_errmsg(reader));
    fds[0] = sock;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, first.data, first.len, &bad));
    bad = good;
    bad.count--;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, first.data, first.len, &bad));
    CHECK_TEXT("descriptors", eunomia_errmsg(reader));
    bad = good;
    bad.fds = NULL;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, first.data, first.len, &bad));
    CHECK_TEXT("exported.fds is null", eunomia_errmsg(reader));
    bad = good;
    bad.count = SIZE_MAX / 2;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, first.data, first.len, &bad));
    CHECK_TEXT("exported.fds is too large", eunomia_errmsg(reader));
    bad = good;
    bad.description = NULL;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, first.data, first.len, &bad));
    bad.description = "object 0";
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, first.data, first.len, &bad));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, first.data, first.len, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_import(reader, second.data, second.len, &good));
    CHECK_TEXT("another package", eunomia_errmsg(reader));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_adopt(reader, first.data, first.len, &good));
    ok(reader, eunomia_import(reader, first.data, first.len, &good));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_import(reader, first.data, first.len, &good));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_load(reader));
    CHECK_STATUS(EUNOMIA_ERR_STATE, replace(reader, second, 0));
    CHECK_TEXT("imported", eunomia_errmsg(reader));
    close_all(good.fds, good.count); // they were copied
    CHECK(version_of(reader) == 1);
    eunomia_destroy(reader);
    eunomia_destroy(vm);
}

// ---- two processes ----

// A message: what to do, and descriptors with their description.
struct message {
    char what[16], description[4096];
    int fds[64];
    size_t count;
};

static void send_message(int to, const char *what, const eunomia_exported *exported) {
    struct message message = {.count = exported ? exported->count : 0};
    char control[CMSG_SPACE(sizeof(message.fds))] = {0};
    struct iovec bytes = {&message, sizeof(message)};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};
    snprintf(message.what, sizeof(message.what), "%s", what);
    if (exported) {
        size_t len = message.count * sizeof(int);
        CHECK(message.count <= 64 && strlen(exported->description) < sizeof(message.description));
        strcpy(message.description, exported->description);
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(len);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        *rights =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(len)};
        memcpy(CMSG_DATA(rights), exported->fds, len);
    }
    CHECK(sendmsg(to, &header, 0) == sizeof(message));
}

// The loader needs no copy once the reader has its own.
static void send_exported(int to, const char *what, eunomia_exported exported) {
    send_message(to, what, &exported);
    close_all(exported.fds, exported.count);
}

static struct message receive_message(int from) {
    struct message message;
    char control[CMSG_SPACE(sizeof(message.fds))];
    struct iovec bytes = {&message, sizeof(message)};
    struct msghdr header = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    CHECK(recvmsg(from, &header, MSG_CMSG_CLOEXEC | MSG_WAITALL) == sizeof(message));
    if (message.count)
        memcpy(message.fds, CMSG_DATA(CMSG_FIRSTHDR(&header)), message.count * sizeof(int));
    return message;
}

static eunomia_exported passed(const struct message *message) {
    eunomia_exported exported = EUNOMIA_INIT(eunomia_exported);
    exported.description = message->description;
    exported.fds = message->fds;
    exported.count = message->count;
    return exported;
}

static void drop_privileges(void) {
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && setgroups(0, NULL) == 0);
    CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
}

// Does what the loader says while another thread polls, and reports the events of each version.
static void obey(int loader, struct poller *poller) {
    for (struct message told;; send_message(loader, "done", NULL)) {
        told = receive_message(loader);
        eunomia_exported exported = passed(&told);
        if (strcmp(told.what, "adopt") == 0) {
            ok(poller->vm, eunomia_adopt(poller->vm, second.data, second.len, &exported));
            close_all(told.fds, told.count);
        } else if (strcmp(told.what, "rollback") == 0) {
            ok(poller->vm, eunomia_rollback(poller->vm));
        } else if (strcmp(told.what, "commit") == 0) {
            ok(poller->vm, eunomia_commit(poller->vm));
        } else {
            break;
        }
    }
}

static void read_events(int loader) {
    struct poller poller = {empty_vm(), {0, 0, 0}};
    pthread_t thread;
    drop_privileges();
    struct message told = receive_message(loader);
    eunomia_exported exported = passed(&told);
    ok(poller.vm, eunomia_import(poller.vm, first.data, first.len, &exported));
    close_all(told.fds, told.count);
    CHECK(pthread_create(&thread, NULL, poll_until_stopped, &poller) == 0);
    send_message(loader, "done", NULL);
    obey(loader, &poller);
    eunomia_stop(poller.vm);
    CHECK(pthread_join(thread, NULL) == 0);
    while (eunomia_poll(poller.vm, 0, EUNOMIA_FORMAT_RAW, count_versions, poller.counts) > 0) {
    }
    eunomia_destroy(poller.vm);
    CHECK(write(loader, poller.counts, sizeof(poller.counts)) == sizeof(poller.counts));
}

static void wait_for(int reader) {
    CHECK(strcmp(receive_message(reader).what, "done") == 0);
}

static void tell(int reader, const char *what) {
    send_message(reader, what, NULL);
    wait_for(reader);
}

static void prepare_for(int reader, eunomia_vm *vm, uint32_t flags) {
    CHECK_STATUS(EUNOMIA_OK, prepare(vm, second, flags));
    send_exported(reader, "adopt", export_of(vm, EUNOMIA_EXPORT_PREPARED));
    wait_for(reader);
}

static void wait_until_drained(eunomia_vm *vm) {
    int drained;
    for (int tries = 0; (drained = eunomia_drained(vm)) == 0 && tries < 20000; tries++)
        usleep(1000);
    CHECK(drained == 1);
}

// Each call is one event of the version that runs.
static void load_for(int reader, int counts[3]) {
    eunomia_vm *vm = running();
    send_exported(reader, "import", export_of(vm, 0));
    wait_for(reader);
    call(1);
    prepare_for(reader, vm, 0);
    CHECK_STATUS(EUNOMIA_OK, eunomia_abort(vm));
    tell(reader, "rollback");
    call(2);
    prepare_for(reader, vm, EUNOMIA_REPLACE_KEEP_OLD);
    CHECK_STATUS(EUNOMIA_OK, eunomia_flip(vm));
    call(3);
    CHECK_STATUS(EUNOMIA_OK, eunomia_rollback(vm));
    tell(reader, "rollback");
    wait_until_drained(vm);
    call(4);
    prepare_for(reader, vm, 0);
    CHECK_STATUS(EUNOMIA_OK, eunomia_flip(vm));
    call(5);
    tell(reader, "commit");
    wait_until_drained(vm);
    call(6);
    send_message(reader, "end", NULL);
    CHECK(read(reader, counts, 3 * sizeof(int)) == 3 * sizeof(int));
    CHECK(stats_of(vm).events == 0);
    eunomia_destroy(vm);
}

static void a_process_without_privileges_reads_all_versions(void) {
    int sockets[2], counts[3], status;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(sockets[0]);
        read_events(sockets[1]);
        _exit(0);
    }
    close(sockets[1]);
    load_for(sockets[0], counts);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    fprintf(stderr, "%d events of version 1, %d of version 2\n", counts[1], counts[2]);
    CHECK(counts[1] == 3 && counts[2] == 3);
    close(sockets[0]);
}

int main(int argc, char **argv) {
    begin_replaced(argc, argv);
    RUN(a_process_without_privileges_reads_all_versions);
    RUN(exported_descriptors_belong_to_the_caller);
    RUN(a_callback_cannot_export);
    RUN(bad_descriptors_are_refused);
    end_replaced();
    return 0;
}
