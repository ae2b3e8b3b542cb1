// What the runners in C and C++ share: the state of a scenario, and what came out of a step. main.c walks the
// table, compare.c compares; each language carries out the steps in a file of its own.
#ifndef RUNNER_H
#define RUNNER_H

#include "table.h"

#include <stdint.h>

#define MAX_EVENTS 4096
#define MAX_TEXT 65536

// An event as it is compared: raw bytes as hexadecimal digits.
typedef struct seen {
    uint32_t kind;
    bool has_cpu, has_time;
    char source[32], type[32], key[64], data[160];
} seen;

// What a step gave. `info` holds the members of a struct, one NAME=VALUE a line.
typedef struct outcome {
    // Below 0 the status of the failure, else what the call answers.
    int status, exit_code, errsys;
    size_t need, byte_count, event_count;
    unsigned char bytes[4096];
    // NULL: no text came out.
    const char *text;
    // Of the failure.
    const char *status_name, *errmsg, *errdetail;
    // What the failure is about: an eunomia_subject and its name.
    int subject;
    const char *subject_name;
    char info[1024];
    seen events[MAX_EVENTS];
} outcome;

// A scenario under way.
typedef struct scenario {
    // CLOCK_MONOTONIC when it began.
    uint64_t began_ns;
    // The vm and what goes with it; what it is, is the business of the one who carries out.
    void *host;
    // What the log got.
    char log[MAX_TEXT];
    // What differed first, "" if nothing has.
    char difference[2048];
} scenario;

#ifdef __cplusplus
extern "C" {
#endif

// To be written for each language: carries out a step; false if there is no such call.
bool carry_out(scenario *scenario, const args *args, outcome *outcome);

// To be written for each language: joins threads and lets go of the vm.
void clean_up(scenario *scenario);

// Carries out a step and says in scenario->difference what is not as the table expects.
void take_step(scenario *scenario, const args *args, outcome *outcome);

// Takes the steps that `args` has for its callback.
void take_steps_inside(scenario *scenario, const args *args);

// CLOCK_MONOTONIC in nanoseconds.
uint64_t now_ns(void);

// Says in scenario->difference what is not as the step expects.
void compare(scenario *scenario, const args *args, const outcome *outcome);

#ifdef __cplusplus
}
#endif

#endif
