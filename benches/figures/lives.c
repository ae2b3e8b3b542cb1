// Leaks of many vm life cycles. Prints the growth: descriptors and kB of resident memory.
// usage: lives PACKAGE COUNT
#include <dirent.h>
#include <eunomia.h>

#include "measure.h"

static void live(const char *package, int lives) {
    for (int i = 0; i < lives; i++) {
        eunomia_vm *vm;

        if (eunomia_new(&vm, NULL) < 0)
            die(package, "no vm");
        if (eunomia_open_file(vm, package, EUNOMIA_KIND_JSON) < 0 || eunomia_attach(vm) < 0)
            die(package, eunomia_errmsg(vm));
        eunomia_destroy(vm);
    }
}

static long descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    long count = 0;

    check(folder != NULL, "/proc/self/fd");
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static long resident_kb(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long all, resident;

    check(file && fscanf(file, "%ld %ld", &all, &resident) == 2, "/proc/self/statm");
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv) {
    if (argc != 3)
        die("usage", "lives PACKAGE COUNT");
    int count = atoi(argv[2]);
    live(argv[1], 10 + count / 10);
    long open = descriptors(), kb = resident_kb();
    live(argv[1], count);
    printf("%ld %ld\n", descriptors() - open, resident_kb() - kb);
    return 0;
}
