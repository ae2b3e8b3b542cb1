// A process that makes it hard to read its files, in a way that the argument selects. It runs a loop whose
// function a profiler looks up, and prints a line when the loop begins. Its paths end in its process id; it
// removes no file.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char perf_map[128], copy[128];
static off_t small, large;
static const char *changing;

// A file whose size changes all the time.
static void *change(void *unused) {
    (void)unused;
    int file = open(changing, O_RDWR | O_CREAT, 0644);
    for (;;) {
        if (ftruncate(file, large))
            return NULL;
        usleep(3000);
        if (ftruncate(file, small))
            return NULL;
        usleep(1000);
    }
}

static void start_changing(const char *path, off_t from, off_t to) {
    pthread_t thread;
    changing = path, small = from, large = to;
    pthread_create(&thread, NULL, change, NULL);
}

// Code in memory without a name: `jmp .`
static void *anonymous_loop(void) {
    unsigned char *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    code[0] = 0xeb, code[1] = 0xfe;
    return code;
}

__attribute__((noinline, aligned(64))) static void loop_in_a_file(void) {
    for (;;)
        __asm__ volatile("");
}

extern char __executable_start;

// The same loop in a copy of this file, mapped as a library would be.
static void *file_loop(void) {
    char text[1 << 16];
    ssize_t len;
    int from = open("/proc/self/exe", O_RDONLY), to = open(copy, O_RDWR | O_CREAT | O_TRUNC, 0755);
    while ((len = read(from, text, sizeof(text))) > 0)
        if (write(to, text, len) != len)
            exit(1);
    off_t size = lseek(to, 0, SEEK_CUR);
    size_t offset = (char *)loop_in_a_file - &__executable_start, page = offset & ~4095UL;
    char *code = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, to, page);
    // The code stays in the file. The symbols and sections after it are repeatedly cut off and
    // replaced by zeros. The ELF header places the sections far beyond the code.
    start_changing(copy, page + 8192, size > 1 << 28 ? size : 1 << 28);
    return code + (offset - page);
}

static void write_map(void *code, const char *name) {
    FILE *file = fopen(perf_map, "w");
    fprintf(file, "%lx 40 %s\n", (long)code, name);
    fclose(file);
}

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[2] : "none";
    snprintf(perf_map, sizeof(perf_map), "/tmp/perf-%d.map", getpid());
    snprintf(copy, sizeof(copy), "%s/copy-%d", argv[1], getpid());
    alarm(120);
    void *code = strcmp(mode, "elf") ? anonymous_loop() : file_loop();
    if (!strcmp(mode, "fifo"))
        mkfifo(perf_map, 0666);
    if (!strcmp(mode, "device"))
        (void)!symlink("/dev/zero", perf_map);
    if (!strcmp(mode, "changing"))
        start_changing(perf_map, 0, 1L << 30);
    if (!strcmp(mode, "large"))
        close(open(perf_map, O_RDWR | O_CREAT, 0644)), (void)!truncate(perf_map, 1L << 40);
    if (!strcmp(mode, "map"))
        write_map(code, "compiled_by_a_stranger");
    if (!strcmp(mode, "escape"))
        write_map(code, "a\033[2J\302\233name");
    if (!strcmp(mode, "lease")) {
        write_map(code, "leased");
        int file = open(perf_map, O_RDWR);
        // Another process that opens the file waits until this one releases its lease, which never happens.
        signal(SIGIO, SIG_IGN);
        if (fcntl(file, F_SETLEASE, F_WRLCK))
            return 1;
    }
    if (!strcmp(mode, "maps"))
        for (int n = 0; n < 65000; n++)
            mmap(NULL, 4096, n & 1 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    puts(perf_map), fflush(stdout);
    ((void (*)(void))code)();
}
