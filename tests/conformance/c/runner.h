// What the parts of the C runner share: the state of a scenario, and what came out of a step.
#ifndef RUNNER_H
#define RUNNER_H

#include <eunomia.h>

#include <pthread.h>

#include "table.h"

#define MAX_EVENTS 4096
#define MAX_TEXT 65536

// An event as it is compared: raw bytes as hexadecimal digits.
typedef struct seen {
    uint32_t kind;
    bool has_cpu;
    char source[32], type[32], key[64], data[160];
} seen;

// What a step gave. Numbers that a struct holds are looked up by name in `info`, written as fields
// NAME=VALUE.
typedef struct outcome {
    int status, exit_code;
    size_t need, byte_count, event_count;
    unsigned char bytes[4096];
    const char *text;
    char info[1024];
    seen events[MAX_EVENTS];
} outcome;

// A scenario under way.
typedef struct scenario {
    eunomia_vm *vm;
    pthread_t stopper;
    bool has_stopper;
    // Lines of the log, and what keeps them apart from texts of the vm.
    char log[MAX_TEXT];
    // What differed first, "" if nothing has.
    char difference[2048];
} scenario;

// Carries out the step; false if there is no such call.
bool carry_out(scenario *scenario, const args *args, outcome *outcome);

// Says in scenario->difference what is not as the step expects.
void compare(scenario *scenario, const args *args, const outcome *outcome);

// Carries out and compares a step that is taken inside a callback.
void take_step(scenario *scenario, const args *args, outcome *outcome);

#endif
