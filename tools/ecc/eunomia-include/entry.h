// An entry that calls main, which may take `(int argc, const char **argv)`, `(int argc, char **argv)` or
// nothing. To be included once.
#ifndef EWASM_ENTRY_H_
#define EWASM_ENTRY_H_

#include "wasm-app.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

// What clang calls main in WASM, with and without parameters. The second one is in wasi-libc too, and without
// any main it is an error of the linker.
__attribute__((weak)) int __main_argc_argv(int argc, char **argv);
int __main_void(void);

int bpf_main(char *env_json, int str_len) {
    (void)str_len;
    int argc = 0, code = 1;
    cJSON *arguments = cJSON_Parse(env_json), *argument;
    // One more for the NULL at the end, and one so that there always is an argv[0].
    char **argv = (char **)calloc((size_t)cJSON_GetArraySize(arguments) + 2, sizeof(char *));
    int are_texts = cJSON_IsArray(arguments) && argv;
    cJSON_ArrayForEach(argument, arguments) {
        are_texts = are_texts && (argv[argc++] = cJSON_GetStringValue(argument));
    }
    if (are_texts) {
        if (argc == 0)
            argv[argc++] = (char *)"app";
        // The host gets lines as they are printed, and what is left at the end.
        setvbuf(stdout, NULL, _IOLBF, 0);
        code = __main_argc_argv ? __main_argc_argv(argc, argv) : __main_void();
        fflush(stdout);
    } else {
        fprintf(stderr, "bpf_main: the arguments are no JSON array of texts\n");
    }
    free(argv);
    cJSON_Delete(arguments);
    return code;
}

#ifdef __cplusplus
}
#endif

#endif
