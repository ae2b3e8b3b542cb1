// Runs several packages at once, each in a vm, and handles all events in one loop, until Ctrl-C.
// usage: several PACKAGE.json...
#include <eunomia.h>
#include <signal.h>
#include <stdio.h>

#define MAX_PACKAGES 16

static eunomia_vm *vms[MAX_PACKAGES];
static eunomia_group *group;

static void on_signal(int number) {
    (void)number;
    eunomia_group_stop(group);
}

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg;
    printf("%s %s\n", (const char *)event->member, (const char *)event->data);
    return 0;
}

static int start(int i, char *package) {
    if (eunomia_new(&vms[i], NULL) < 0)
        return -1;
    if (eunomia_open_file(vms[i], package, EUNOMIA_KIND_JSON) < 0)
        fprintf(stderr, "%s\n", eunomia_errmsg(vms[i])); // begins with the path
    else if (eunomia_attach(vms[i]) < 0)
        fprintf(stderr, "%s: %s\n", package, eunomia_errmsg(vms[i]));
    else
        return eunomia_group_add(group, vms[i], package);
    return -1;
}

// Returns after Ctrl-C, or if a package fails.
static int run(void) {
    void *package;
    int status;
    do
        status = eunomia_group_poll(group, -1, EUNOMIA_FORMAT_JSON, on_event, NULL);
    while (status >= 0);
    const char *message = eunomia_group_errmsg(group, &package);
    if (status == EUNOMIA_ERR_STOPPED && !package)
        return 0;
    fprintf(stderr, "%s: %s\n", package ? (const char *)package : "group", message);
    return status;
}

int main(int argc, char **argv) {
    int count = argc - 1, status = count > 0 && count <= MAX_PACKAGES ? eunomia_group_new(&group) : -1;
    if (status < 0)
        fprintf(stderr, "usage: %s PACKAGE... (at most %d)\n", argv[0], MAX_PACKAGES);
    signal(SIGINT, on_signal);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < count && status >= 0; i++)
        status = start(i, argv[i + 1]);
    if (status >= 0)
        status = run();
    signal(SIGINT, SIG_IGN); // a late signal must not use the freed group
    for (int i = 0; i < count && i < MAX_PACKAGES; i++)
        eunomia_destroy(vms[i]);
    eunomia_group_destroy(group);
    return status < 0;
}
