// Shared by the programs that measure the time from a program's submit to its arrival in a thread that
// sleeps. The main thread triggers one event after the other. usage: PROGRAM FILE
#ifndef LATENCY_H
#define LATENCY_H

#include <pthread.h>
#include <sys/prctl.h>

#include "measure.h"
#include "trigger.h"

#define EVENTS 2000
#define PAUSE_US 500

// Starts the producer and whatever waits for its events.
static void start(const char *file);

// Waits for events and reports each by `arrived`.
static void drain(void);

static struct times times;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

// `submitted` and `now` are in nanoseconds of the same clock.
static void arrived(uint64_t submitted, uint64_t now) {
    if (times.count < EVENTS)
        add(&times, (double)(now - submitted) / 1e3);
}

static int has_all(void) {
    return __atomic_load_n(&times.count, __ATOMIC_RELAXED) >= EVENTS;
}

static void *receive(void *unused) {
    while (!has_all())
        drain();
    return unused;
}

// Prints the median and the 99th percentile in microseconds.
static int measure_latency(int argc, char **argv) {
    pthread_t receiver;

    if (argc != 2)
        die("usage", "PROGRAM FILE");
    start(argv[1]);
    check(!pthread_create(&receiver, NULL, receive, NULL), "thread");
    while (!has_all()) {
        usleep(PAUSE_US);
        check(!prctl(PR_SET_NAME, TRIGGER), "taking a name");
    }
    check(!pthread_join(receiver, NULL), "thread");
    printf("%f ", median(&times));
    printf("%f\n", times.of[EVENTS / 100 * 99]);
    return 0;
}

#endif
