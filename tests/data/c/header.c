// The header by itself, and its one macro that is more than a number.
#include <eunomia.h>

extern eunomia_stats stats;
eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
