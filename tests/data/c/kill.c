// A host that is killed at any time leaves nothing in the kernel.
#include "test.h"

#include <linux/bpf.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define KILLS 200

static void *elf;
static size_t elf_len;

// Runs one life cycle after the other until it is killed.
static void live_on(void) {
    for (;;) {
        eunomia_vm *vm = empty_vm();
        ok(vm, eunomia_open_object(vm, elf, elf_len, NULL));
        ok(vm, eunomia_attach(vm));
        ok(vm, eunomia_queue_start(vm, 0));
        ok(vm, eunomia_poll(vm, 1, EUNOMIA_FORMAT_RAW, ignore_event, NULL));
        eunomia_destroy(vm);
    }
}

static long bpf(int command, union bpf_attr *attr) {
    return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

// Returns the number of the test's programs and maps in the kernel.
static int count_ours(void) {
    static const int NEXT[2] = {BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID};
    static const int OPEN[2] = {BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID};
    int count = 0;

    for (int kind = 0; kind < 2; kind++) {
        union bpf_attr next = {.start_id = 0};
        for (; bpf(NEXT[kind], &next) == 0; next.start_id = next.next_id) {
            union bpf_attr open = {.prog_id = next.next_id};
            int fd = (int)bpf(OPEN[kind], &open);
            struct bpf_prog_info prog = {0};
            struct bpf_map_info map = {0};
            union bpf_attr info = {0};
            if (fd < 0)
                continue;
            info.info.bpf_fd = (uint32_t)fd;
            info.info.info_len = kind ? sizeof(map) : sizeof(prog);
            info.info.info = kind ? (uint64_t)(uintptr_t)&map : (uint64_t)(uintptr_t)&prog;
            if (bpf(BPF_OBJ_GET_INFO_BY_FD, &info) == 0)
                count += strncmp(kind ? map.name : prog.name, "killed_", 7) == 0;
            close(fd);
        }
    }
    return count;
}

static void nothing_is_left_of_hosts_that_are_killed(void) {
    int alive = 0;

    for (int kill_number = 0; kill_number < KILLS; kill_number++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            live_on();
        struct timespec moment = {0, (rand() % 12000) * 1000L};
        nanosleep(&moment, NULL);
        alive += count_ours() > 0;
        CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    }
    // Most hosts had loaded something; otherwise the test would prove nothing.
    CHECK(alive > KILLS / 10);
    // The kernel frees programs asynchronously.
    for (int tries = 0; count_ours() > 0 && tries < 2000; tries++)
        usleep(10000);
    CHECK(count_ours() == 0);
    fprintf(stderr, "%d of %d hosts had programs or maps when they were killed\n", alive, KILLS);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    elf = read_file(package_path("killed.o"), &elf_len);
    RUN(nothing_is_left_of_hosts_that_are_killed);
    free(elf);
    return 0;
}
