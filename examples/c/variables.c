// Sets variables of the example "opensnoop" before it runs, and reads its maps afterwards.
// usage: variables target/packages/opensnoop/package.json
#include <eunomia.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static eunomia_vm *vm;

// Exits if a call failed.
static int check(int status) {
    if (status >= 0)
        return status;
    fprintf(stderr, "%s: %s\n%s", eunomia_status_name(status), eunomia_errmsg(vm), eunomia_errdetail(vm));
    exit(1); // the kernel releases everything
}

static int print(void *arg, const eunomia_event *event) {
    (void)arg;
    puts(event->data);
    return 0;
}

int main(int argc, char **argv) {
    const char *json;
    if (argc != 2 || eunomia_new(&vm, NULL) < 0)
        return 2;
    check(eunomia_open_file(vm, argv[1], EUNOMIA_KIND_JSON));
    check(eunomia_var_get_json(vm, "targ_failed", &json));
    printf("targ_failed %s\n", json); // valid until the next call

    // Constants must be set before load: one as bytes, one as JSON.
    int pid = getpid();
    check(eunomia_var_set(vm, "targ_pid", &pid, sizeof(pid)));
    check(eunomia_var_set_json(vm, "targ_failed", "true"));
    check(eunomia_attach(vm));

    // Only the second open fails and is reported.
    fclose(fopen("/proc/self/stat", "r"));
    if (!fopen("/nothing/here", "r"))
        perror("expected");
    check(eunomia_poll(vm, 1000, EUNOMIA_FORMAT_JSON, print, NULL));

    int count = check(eunomia_map_count(vm));
    for (int i = 0; i < count; i++) {
        eunomia_map_info map = EUNOMIA_INIT(eunomia_map_info);
        check(eunomia_map_at(vm, i, &map));
        printf("map %s %u\n", map.name, map.max_entries);
    }
    printf("opens under way: %d\n", check(eunomia_map_each(vm, "started", EUNOMIA_FORMAT_JSON, print, NULL)));
    eunomia_destroy(vm);
    return 0;
}
