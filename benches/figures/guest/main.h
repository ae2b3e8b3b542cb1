// Loads the measured package and prints "ready" before it waits for events.
#ifndef MAIN_H
#define MAIN_H

#include "eunomia-include/native-ewasm.h"

#include <stdio.h>
#include <string.h>

#include "ewasm-skel.h"

int bpf_main(char *env_json, int str_len) {
    (void)env_json, (void)str_len;
    int id = create_bpf(program_data, (int)strlen(program_data));

    if (id < 0 || run_bpf(id) < 0)
        return 1;
    puts("ready");
    fflush(stdout);
    return wait_and_poll_bpf(id);
}

#endif
