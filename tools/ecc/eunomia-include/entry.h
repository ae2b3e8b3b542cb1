// Defines a bpf_main that calls main. main may have the parameters `(int argc, const char **argv)` or
// `(int argc, char **argv)`, or none. Include it in one file only.
#ifndef EWASM_ENTRY_H_
#define EWASM_ENTRY_H_

#include "wasm-app.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

// The names that clang gives to main in WASM, with and without parameters. wasi-libc also defines the second
// one; without any main, the linker reports an error.
__attribute__((weak)) int __main_argc_argv(int argc, char **argv);
int __main_void(void);

int bpf_main(char *env_json, int str_len) {
    (void)str_len;
    int argc = 0, code = 1;
    cJSON *arguments = cJSON_Parse(env_json), *argument;
    // One more for the NULL at the end, and one so that argv[0] always exists.
    char **argv = (char **)calloc((size_t)cJSON_GetArraySize(arguments) + 2, sizeof(char *));
    int are_strings = cJSON_IsArray(arguments) && argv;
    cJSON_ArrayForEach(argument, arguments) {
        are_strings = are_strings && (argv[argc++] = cJSON_GetStringValue(argument));
    }
    if (are_strings) {
        if (argc == 0)
            argv[argc++] = (char *)"app";
        // The host gets each line when it is printed, and the rest at the end.
        setvbuf(stdout, NULL, _IOLBF, 0);
        code = __main_argc_argv ? __main_argc_argv(argc, argv) : __main_void();
        fflush(stdout);
    } else {
        fprintf(stderr, "bpf_main: the arguments are not a JSON array of strings\n");
    }
    free(argv);
    cJSON_Delete(arguments);
    return code;
}

#ifdef __cplusplus
}
#endif

#endif
