// An entry that calls `int main(int argc, const char **argv)`. To be included once, before main is defined.
#ifndef EWASM_ENTRY_H_
#define EWASM_ENTRY_H_

#include "cJSON/cJSON.h"
#include "native-ewasm.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, const char **argv);

#ifdef __cplusplus
extern "C"
#endif
    int
    bpf_main(char *env_json, int str_len) {
    (void)str_len;
    int argc = 0, code = 1;
    cJSON *arguments = cJSON_Parse(env_json), *argument;
    // One more for the NULL at the end, and one so that there always is an argv[0].
    const char **argv = (const char **)calloc((size_t)cJSON_GetArraySize(arguments) + 2, sizeof(char *));
    int are_texts = cJSON_IsArray(arguments) && argv;
    cJSON_ArrayForEach(argument, arguments) {
        are_texts = are_texts && (argv[argc++] = cJSON_GetStringValue(argument));
    }
    if (are_texts) {
        if (argc == 0)
            argv[argc++] = "app";
        // The host gets lines as they are printed, and what is left at the end.
        setvbuf(stdout, NULL, _IOLBF, 0);
        code = main(argc, argv);
        fflush(stdout);
    } else {
        fprintf(stderr, "bpf_main: the arguments are no JSON array of texts\n");
    }
    free(argv);
    cJSON_Delete(arguments);
    return code;
}

#endif
