// Functions to set the variables of a package and to run it. They need cJSON; wasm-app.h includes both.
#ifndef EWASM_HELPERS_H_
#define EWASM_HELPERS_H_

#include "cJSON/cJSON.h"
#include "native-ewasm.h"

#include <stdio.h>
#include <string.h>

// Opens, loads and attaches a package. Returns its number, or -1 after an error message on stderr; the host's
// log has the details.
static inline int load_bpf_program(char *program_data) {
    if (!program_data) {
        fprintf(stderr, "load_bpf_program: the package is NULL\n");
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

// Passes the events of a package to `process_event` until the host ends the run. EWASM_ALL_PROGRAMS means all
// running packages. Returns 0, or -1 after an error message on stderr.
static inline int poll_bpf_program(int id) {
    int result = wait_and_poll_bpf(id);
    if (result < 0) {
        fprintf(stderr, "wait_and_poll_bpf failed %d\n", result);
        return -1;
    }
    return 0;
}

// Runs one package until the host ends the run. Returns 0, or -1 after an error message on stderr. To run
// several packages, call `load_bpf_program` for each, then `poll_bpf_program(EWASM_ALL_PROGRAMS)`.
static inline int start_bpf_program(char *program_data) {
    int id = load_bpf_program(program_data);
    return id < 0 ? -1 : poll_bpf_program(id);
}

// Sets or adds a member of an object. The object takes ownership of the value. Returns 1, or 0 on failure.
static inline int ewasm_set_member(cJSON *object, const char *name, cJSON *value) {
    if (cJSON_ReplaceItemInObjectCaseSensitive(object, name, value) ||
        cJSON_AddItemToObject(object, name, value))
        return 1;
    cJSON_Delete(value);
    return 0;
}

// Returns the entry of a global variable in the metadata, which packages have since version 0.3.
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

// Sets a global variable of the BPF program. Call it before `start_bpf_program`. Returns `program`, which
// takes ownership of `value`. Opening the package fails if the program has no variable with this name.
static inline cJSON *set_bpf_program_global_var(cJSON *program, const char *key, cJSON *value) {
    if (!cJSON_IsObject(program) || !key || !value) {
        fprintf(stderr, "set_bpf_program_global_var: %s: no value or no package\n", key ? key : "(no name)");
        cJSON_Delete(value);
        return program;
    }
    // Loaders of versions 0.3 to 1.0 read only the value of the variable, older ones and libeunomia also
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
        fprintf(stderr, "set_bpf_program_global_var: %s: out of memory\n", key);
    return program;
}

#endif
