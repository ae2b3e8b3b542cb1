// Code shared by the two hosts with many packages.
#ifndef MANY_H
#define MANY_H

#include <sys/prctl.h>

#include "measure.h"
#include "trigger.h"

#define MOST_PACKAGES 50
#define ROUNDS 50
#define IN_A_ROW 1000

static int packages;

// Total over all packages.
static uint64_t seen;

static void start(const char *path, int package);

// Waits for events and consumes them.
static void drain(void);

// Nanoseconds per event in a round in which every package has `events` events.
static double round_ns(int events) {
    uint64_t all = (uint64_t)events * packages;
    double begin;

    for (int i = 0; i < events; i++)
        check(!prctl(PR_SET_NAME, TRIGGER), "taking a name");
    seen = 0;
    begin = now_ns();
    while (seen < all)
        drain();
    return (now_ns() - begin) / all;
}

static double events_ns(int events) {
    struct times times = {0};

    for (int i = 0; i < ROUNDS; i++)
        add(&times, round_ns(events));
    return median(&times);
}

// The median of all starts except the first, if there are more.
static double start_ms(const char *path) {
    struct times times = {0};

    for (int i = 0; i < packages; i++) {
        double begin = now_ns();

        start(path, i);
        if (i > 0 || packages == 1)
            add(&times, (now_ns() - begin) / 1e6);
    }
    return median(&times);
}

// Prints milliseconds to start a package, and nanoseconds per event for a thousand events and for one. Then
// waits until it is killed.
static void measure(int argc, char **argv) {
    double ms, in_a_row, single;

    if (argc != 3 || (packages = atoi(argv[2])) < 1 || packages > MOST_PACKAGES)
        die("usage: FILE COUNT, COUNT at most", "50");
    ms = start_ms(argv[1]);
    in_a_row = events_ns(IN_A_ROW);
    single = events_ns(1);
    printf("%f %f %f\n", ms, in_a_row, single);
    fflush(stdout);
    for (;;)
        drain();
}

#endif
