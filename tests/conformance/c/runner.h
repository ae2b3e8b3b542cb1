// Shared by the runners in C and C++: the state of a scenario and the outcome of a step. main.c executes the
// table and compare.c compares. Each language executes the steps in a file of its own.
#ifndef RUNNER_H
#define RUNNER_H

#include "table.h"

#include <stdint.h>

#define MAX_EVENTS 4096
#define MAX_TEXT 65536

// An event in the form that is compared: raw bytes as hexadecimal digits.
typedef struct seen {
    uint32_t kind;
    bool has_cpu, has_time;
    // The vm of the event: "current", "other", or "" outside of a group.
    const char *vm;
    char source[32], type[32], key[64], data[160];
} seen;

// The outcome of a step. `info` has the members of a struct, one NAME=VALUE per line.
typedef struct outcome {
    // The returned value; < 0 is an eunomia_status.
    int status, exit_code, errsys;
    size_t need, byte_count, event_count;
    unsigned char bytes[4096];
    // The returned string; NULL for none.
    const char *text;
    // The name of the status, and the messages of the error.
    const char *status_name, *errmsg, *errdetail;
    // The subject of the error: an eunomia_subject and its name.
    int subject;
    const char *subject_name;
    char info[1024];
    seen events[MAX_EVENTS];
} outcome;

// A running scenario.
typedef struct scenario {
    // CLOCK_MONOTONIC when it began.
    uint64_t began_ns;
    // The vm and its resources; defined by each language.
    void *host;
    // The log lines.
    char log[MAX_TEXT];
    // The first difference; "" for none.
    char difference[2048];
} scenario;

#ifdef __cplusplus
extern "C" {
#endif

// Implemented by each language: executes a step. Returns false if there is no such call.
bool carry_out(scenario *scenario, const args *args, outcome *outcome);

// Implemented by each language: joins threads and destroys the vm.
void clean_up(scenario *scenario);

// Executes a step and stores the first difference in scenario->difference.
void take_step(scenario *scenario, const args *args, outcome *outcome);

// Executes the steps that `args` has for its callback.
void take_steps_inside(scenario *scenario, const args *args);

// CLOCK_MONOTONIC in nanoseconds.
uint64_t now_ns(void);

// Stores the first difference in scenario->difference.
void compare(scenario *scenario, const args *args, const outcome *outcome);

#ifdef __cplusplus
}
#endif

#endif
