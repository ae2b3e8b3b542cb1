// A guest with its own C library (wasi-libc) that reads the directory that the host gives.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Prints the entries of a directory in order, read into a buffer that is shorter than many names.
static void list(const char *path) {
    char *lines[2000];
    int count = 0;
    DIR *folder = opendir(path);
    if (!folder) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        const char *kind = entry->d_type == DT_DIR ? "/" : entry->d_type == DT_LNK ? "@" : "";
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        asprintf(&lines[count++], "%s%s", entry->d_name, kind);
    }
    closedir(folder);
    qsort(lines, count, sizeof(*lines), by_name);
    if (count > 20) {
        printf("%s: %d, %s to %s\n", path, count, lines[0], lines[count - 1]);
        return;
    }
    printf("%s:", path);
    for (int i = 0; i < count; i++)
        printf(" %s", lines[i]);
    printf("\n");
}

static void read_pieces(const char *path) {
    char bytes[8] = {0};
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    long last = pread(fd, bytes, 4, 8), middle = pread(fd, bytes + 4, 3, 2);
    printf("%s: %ld %.4s %ld %s", path, last, bytes, middle, bytes + 4);
    printf(" behind %ld, at %ld\n", pread(fd, bytes, 4, 100), (long)lseek(fd, 0, SEEK_CUR));
    close(fd);
}

static void look_at(const char *path) {
    struct stat followed = {0}, itself = {0};
    int errors[2] = {stat(path, &followed) ? errno : 0, lstat(path, &itself) ? errno : 0};
    printf("%s: %s %d, %s %d\n", path, errors[0] ? strerror(errors[0]) : "", S_ISREG(followed.st_mode),
           errors[1] ? strerror(errors[1]) : "", S_ISLNK(itself.st_mode));
}

__attribute__((export_name("bpf_main"))) int bpf_main(char *args, int len) {
    (void)args, (void)len;
    if (chdir(FOLDER))
        return 1;
    list(".");
    list("many");
    list("file");
    list("nothing");
    list("out");
    list("absolute");
    list("..");
    list("many/../..");
    list("/etc");
    read_pieces("file");
    read_pieces("good");
    read_pieces("many");
    read_pieces("out/secret");
    read_pieces("../outside/secret");
    look_at("file");
    look_at("good");
    look_at("out");
    look_at("pipe");
    fflush(stdout);
    return 0;
}
