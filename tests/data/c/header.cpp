// The header by itself.
#include <eunomia.h>

extern "C" int count_events(void *arg, const eunomia_event *event) {
    return event->size >= sizeof(eunomia_event) ? 0 : *static_cast<int *>(arg);
}

static_assert(EUNOMIA_VERSION_NUM >= 100, "the version is a number");
