// A guest that uses WASI. Macros choose what it does.
#include "package.h"

typedef unsigned long long u64;
typedef struct {
    const void *data;
    int len;
} piece;

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

WASI(args_get) int args_get(char **args, char *texts);
WASI(args_sizes_get) int args_sizes_get(int *count, int *len);
WASI(environ_sizes_get) int environ_sizes_get(int *count, int *len);
WASI(clock_time_get) int clock_time_get(int clock, u64 precision, u64 *time);
WASI(random_get) int random_get(void *bytes, int len);
WASI(fd_write) int fd_write(int fd, const piece *pieces, int count, int *written);
WASI(fd_read) int fd_read(int fd, const piece *pieces, int count, int *read);
WASI(fd_close) int fd_close(int fd);
WASI(fd_tell) int fd_tell(int fd, u64 *at);
WASI(fd_prestat_get) int fd_prestat_get(int fd, int *stat);
WASI(fd_prestat_dir_name) int fd_prestat_dir_name(int fd, char *name, int len);
WASI(path_open)
int path_open(int dir, int lookup, const char *path, int len, int flags, u64 rights, u64 inherited,
              int fd_flags, int *fd);
WASI(path_create_directory) int path_create_directory(int dir, const char *path, int len);
int printf(const char *format, ...);
int puts(const char *text);
unsigned strlen(const char *text);

static void write(int fd, const char *text, int len) {
    int written;
    // Writes the text in two parts, as a C library may do.
    piece pieces[] = {{text, len / 2}, {text + len / 2, len - len / 2}};
    if (fd_write(fd, pieces, 2, &written) || written != len)
        __builtin_trap();
}

#ifdef WORLD
static void world(void) {
    static char *args[16], texts[256];
    int count, len;
    args_sizes_get(&count, &len);
    args_get(args, texts);
    printf("%d arguments\n", count);
    for (int i = 0; i < count; i++)
        printf("[%s]\n", args[i]);
    environ_sizes_get(&count, &len);
    printf("environment %d %d\n", count, len);
    u64 real = 0, before = 0, after = 0;
    clock_time_get(0, 1, &real);
    clock_time_get(1, 1, &before);
    clock_time_get(1, 1, &after);
    printf("clocks %d %d\n", real > 1600000000000000000ull, after >= before && before > 0);
    u64 random[8] = {0};
    random_get(random, sizeof(random));
    printf("random %d\n", random[0] != random[1] && random[7] != 0);
}
#endif

#ifdef PRINT
static void print(void) {
    static char line[70001];
    write(1, "one ", 4);
    write(1, "two\n\n", 5);
    printf("printf %d %u %lld %c %s %.2f %x %%\n", -7, -1, -5000000000ll, 'c', "text", 1.5, 255);
    for (int i = 0; i < 70000; i++)
        line[i] = 'x';
    line[70000] = '\n';
    write(1, line, sizeof(line));
    write(1, "\xff\n", 2);
    write(2, "to stderr\n", 10);
    write(1, "rest", 4);
}
#endif

#ifdef FILES
static void show(const char *path, int flags, u64 rights) {
    static char content[64];
    int fd, len = 0;
    u64 at = 0;
    piece piece = {content, sizeof(content)};
    int error = path_open(3, 1, path, strlen(path), flags, rights, 0, 0, &fd);
    if (error) {
        printf("%s: %d\n", path, error);
        return;
    }
    if (fd_read(fd, &piece, 1, &len) || fd_tell(fd, &at))
        __builtin_trap();
    content[len] = 0;
    printf("%s: %s at %llu\n", path, content, at);
    fd_close(fd);
}

static void files(void) {
    static char name[256];
    int stat[2];
    if (fd_prestat_get(3, stat) || stat[0] != 0 || fd_prestat_dir_name(3, name, stat[1]))
        __builtin_trap();
    printf("folder %s\n", name);
    const char *paths[] = {"sub/file",          "good",        "nothing",
                           "relative",          "absolute",    "../outside",
                           "sub/../../outside", "/etc/passwd", "fifo"};
    for (int i = 0; i < 9; i++)
        show(paths[i], 0, 2);
    show("make", 1, 2);
    show("write", 0, 64);
}
#endif

#ifdef NO_FILES
static int no_files(void) {
    int stat[2], fd;
    if (fd_prestat_get(3, stat) != 8 || fd_prestat_get(-1, stat) != 8)
        return 1;
    if (path_open(3, 0, "/etc/passwd", 11, 0, 2, 0, 0, &fd) != 8)
        return 2;
    if (path_create_directory(3, "made", 4) != 52)
        return 3;
    char byte;
    piece piece = {&byte, 1};
    int read = -1;
    // stdin is empty.
    if (fd_read(0, &piece, 1, &read) != 0 || read != 0)
        return 4;
    if (fd_write(0, &piece, 1, &read) != 69 || fd_write(9, &piece, 1, &read) != 8)
        return 5;
    return 0;
}
#endif

EXPORT(bpf_main) int bpf_main(char *args, int len) {
    (void)args;
    (void)len;
    (void)package;
    (void)write;
#ifdef WORLD
    world();
#endif
#ifdef PRINT
    print();
#endif
#ifdef FILES
    files();
#endif
#ifdef NO_FILES
    return no_files();
#endif
    return 0;
}
