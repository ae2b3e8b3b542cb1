// Packages as JSON trees: setting their variables, running them. Needs cJSON; wasm-app.h brings both.
#ifndef EWASM_HELPERS_H_
#define EWASM_HELPERS_H_

#include "cJSON/cJSON.h"
#include "native-ewasm.h"

#include <stdio.h>
#include <string.h>

// Opens, loads and attaches a package and returns its number, or -1 after a line on stderr; the host's log
// knows more.
static inline int load_bpf_program(char *program_data) {
    if (!program_data) {
        fprintf(stderr, "load_bpf_program: there is no package\n");
        return -1;
    }
    int id = create_bpf(program_data, (int)strlen(program_data));
    if (id < 0) {
        fprintf(stderr, "create_bpf failed %d\n", id);
        return -1;
    }
    int result = run_bpf(id);
    if (result < 0) {
        fprintf(stderr, "run_bpf failed %d\n", result);
        return -1;
    }
    return id;
}

// Hands the events of a package, or of all that run with EWASM_ALL_PROGRAMS, to `process_event` until the
// host ends that. Returns 0, or -1 after a line on stderr.
static inline int poll_bpf_program(int id) {
    int result = wait_and_poll_bpf(id);
    if (result < 0) {
        fprintf(stderr, "wait_and_poll_bpf failed %d\n", result);
        return -1;
    }
    return 0;
}

// Runs one package until the host ends that. Returns 0, or -1 after a line on stderr. Several packages at
// once: `load_bpf_program` for each, then `poll_bpf_program(EWASM_ALL_PROGRAMS)`.
static inline int start_bpf_program(char *program_data) {
    int id = load_bpf_program(program_data);
    return id < 0 ? -1 : poll_bpf_program(id);
}

// Sets a member of an object, whether there is one already or not; the value belongs to the object.
static inline int ewasm_set_member(cJSON *object, const char *name, cJSON *value) {
    if (cJSON_ReplaceItemInObjectCaseSensitive(object, name, value) ||
        cJSON_AddItemToObject(object, name, value))
        return 1;
    cJSON_Delete(value);
    return 0;
}

// The entry of a global variable in the metadata, as packages have it since 0.3.
static inline cJSON *ewasm_variable(cJSON *program, const char *name) {
    cJSON *skeleton =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(program, "meta"), "bpf_skel");
    cJSON *section, *variable;
    cJSON_ArrayForEach(section, cJSON_GetObjectItemCaseSensitive(skeleton, "data_sections")) {
        cJSON_ArrayForEach(variable, cJSON_GetObjectItemCaseSensitive(section, "variables")) {
            const char *found = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(variable, "name"));
            if (found && strcmp(found, name) == 0)
                return variable;
        }
    }
    return NULL;
}

// Sets a global variable of the BPF program, to be called before `start_bpf_program`. Returns `program`;
// `value` belongs to it. A name that the program has not is reported when the package is opened.
static inline cJSON *set_bpf_program_global_var(cJSON *program, const char *key, cJSON *value) {
    if (!cJSON_IsObject(program) || !key || !value) {
        fprintf(stderr, "set_bpf_program_global_var: %s has no value or no package\n",
                key ? key : "a variable");
        cJSON_Delete(value);
        return program;
    }
    // Loaders of 0.3 and 1.0 know the value beside the variable only, those before it and libeunomia
    // `runtime_args`.
    cJSON *variable = ewasm_variable(program, key);
    cJSON *copy = variable ? cJSON_Duplicate(value, 1) : NULL;
    if (copy)
        ewasm_set_member(variable, "value", copy);
    cJSON *arguments = cJSON_GetObjectItemCaseSensitive(program, "runtime_args");
    if (!cJSON_IsObject(arguments)) {
        cJSON_DeleteItemFromObjectCaseSensitive(program, "runtime_args");
        arguments = cJSON_AddObjectToObject(program, "runtime_args");
    }
    if (!ewasm_set_member(arguments, key, value))
        fprintf(stderr, "set_bpf_program_global_var: no memory to set %s\n", key);
    return program;
}

#endif
