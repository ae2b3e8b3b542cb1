// Shared by the measuring programs: a clock, results of rounds, and exit with a message.
#ifndef MEASURE_H
#define MEASURE_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_ROUNDS 3000

// The times of one side, one per round.
struct times {
    double of[MAX_ROUNDS];
    int count;
};

static inline void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static inline void check(int ok, const char *what) {
    if (!ok)
        die(what, strerror(errno));
}

static inline double now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

static inline void add(struct times *times, double value) {
    times->of[times->count++] = value;
}

static inline int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static inline double median(struct times *times) {
    qsort(times->of, times->count, sizeof(double), by_value);
    return times->of[times->count / 2];
}

// Prints a line "NAME median median": plain libbpf, then libeunomia.
static inline void report(const char *name, struct times *plain, struct times *ours) {
    printf("%s %f %f\n", name, median(plain), median(ours));
}

#endif
