// Uses the library through dlopen and dlclose, in this thread and in others that end after dlclose.
// usage: dlopen LIBRARY REPEATS
#include <eunomia.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *library;

#define CHECK(condition) ((condition) ? (void)0 : die(__LINE__, #condition))

static void die(int line, const char *what) {
    const char *error = dlerror();
    fprintf(stderr, "dlopen.c:%d: %s; %s\n", line, what, error ? error : "");
    exit(1);
}

static void *use(void *unused) {
    void *handle = dlopen(library, RTLD_NOW);
    CHECK(handle);
    int (*make)(eunomia_vm **, const eunomia_options *) =
        (int (*)(eunomia_vm **, const eunomia_options *))dlsym(handle, "eunomia_new");
    void (*destroy)(eunomia_vm *) = (void (*)(eunomia_vm *))dlsym(handle, "eunomia_destroy");
    CHECK(make && destroy);
    eunomia_vm *vm = NULL;
    CHECK(make(&vm, NULL) == 0);
    destroy(vm);
    CHECK(dlclose(handle) == 0);
    return unused;
}

// Returns the number of mappings of the library.
static int mappings(void) {
    char line[4096];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof(line), maps))
        count += strstr(line, "libeunomia") != NULL;
    fclose(maps);
    return count;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    library = argv[1];
    CHECK(mappings() == 0);
    use(NULL);
    int once = mappings();
    CHECK(once > 0); // it stays mapped, because ending threads may still run its code
    for (int i = atoi(argv[2]); i > 0; i--) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, use, NULL) == 0 && pthread_join(thread, NULL) == 0);
        use(NULL);
    }
    CHECK(mappings() == once);
    return 0;
}
