// Compiles the header on its own, and its macro EUNOMIA_INIT.
#include <eunomia.h>

extern eunomia_stats stats;
eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
