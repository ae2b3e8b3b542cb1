// Executes the table, for the runners in C and C++; see ../README.md. usage: runner TABLE PACKAGES
#include "runner.h"

#include <time.h>

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void take_step(scenario *scenario, const args *args, outcome *outcome) {
    outcome->text = NULL;
    outcome->status_name = outcome->errmsg = outcome->errdetail = outcome->subject_name = "";
    outcome->subject = 0;
    outcome->info[0] = 0;
    outcome->need = outcome->byte_count = outcome->event_count = 0;
    outcome->exit_code = outcome->errsys = -1;
    if (carry_out(scenario, args, outcome))
        compare(scenario, args, outcome);
    else
        snprintf(scenario->difference, sizeof(scenario->difference), "no such call");
    if (scenario->difference[0]) {
        char rest[sizeof(scenario->difference)];
        memcpy(rest, scenario->difference, sizeof(rest));
        snprintf(scenario->difference, sizeof(scenario->difference), "%s: %.1900s", text_of(args, "call"),
                 rest);
    }
}

void take_steps_inside(scenario *scenario, const args *outer) {
    static outcome outcome;
    args args = {.in = outer->in, .prefix = ""};
    for (int i = 0; i < (int)number_of(outer, "inside") && !scenario->difference[0]; i++) {
        snprintf(args.prefix, sizeof(args.prefix), "inside.%d.", i);
        take_step(scenario, &args, &outcome);
    }
}

// Ends the scenario and prints its result.
static void finish(scenario *scenario, const char *name, int step) {
    clean_up(scenario);
    if (scenario->difference[0])
        printf("%s\tstep %d, %s\n", name, step, scenario->difference);
    else
        printf("%s\tok\n", name);
    fflush(stdout);
}

int main(int argc, char **argv) {
    static scenario scenario;
    static outcome outcome;
    static line line;
    char name[128] = "";
    int step = 0;
    FILE *table = argc == 3 ? fopen(argv[1], "r") : NULL;
    if (!table) {
        fprintf(stderr, "usage: runner TABLE PACKAGES\n");
        return 2;
    }
    while (next_line(table, argv[2], &line)) {
        if (strcmp(line.word, "scenario") == 0) {
            if (name[0])
                finish(&scenario, name, step);
            memset(&scenario, 0, sizeof(scenario));
            scenario.began_ns = now_ns();
            snprintf(name, sizeof(name), "%s", line.fields[0]);
            step = 0;
        } else if (!scenario.difference[0]) {
            args args = {.in = &line, .prefix = ""};
            step++;
            take_step(&scenario, &args, &outcome);
        }
    }
    if (name[0])
        finish(&scenario, name, step);
    fclose(table);
    return 0;
}
