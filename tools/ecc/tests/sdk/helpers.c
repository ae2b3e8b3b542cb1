// helpers.h and entry.h with a host that records each call.
#include "check.h"

#include "wasm-app.h"

#include "entry.h"

static char asked[256];
static int created;
static int failing_step;

static int note(const char *what, int id, int step) {
    char text[64];
    snprintf(text, sizeof(text), "%s %d;", what, id);
    strcat(asked, text);
    return step == failing_step ? -5 : 0;
}

int create_bpf(char *ebpf_json, int str_len) {
    CHECK((size_t)str_len == strlen(ebpf_json));
    int result = note("create", created, 1);
    return result < 0 ? result : created++;
}

int run_bpf(int id) {
    return note("run", id, 2);
}

int wait_and_poll_bpf(int id) {
    return note("wait", id, 3);
}

static int start(const char *expected) {
    char package[] = "{}";
    asked[0] = '\0';
    int result = start_bpf_program(package);
    if (strcmp(asked, expected) != 0)
        fprintf(stderr, "%s instead of %s\n", asked, expected);
    CHECK(strcmp(asked, expected) == 0);
    return result;
}

static void test_each_program_is_waited_for_by_its_own_number(void) {
    CHECK(start("create 0;run 0;wait 0;") == 0);
    CHECK(start("create 1;run 1;wait 1;") == 0);
    failing_step = 1;
    CHECK(start("create 2;") == -1);
    failing_step = 2;
    CHECK(start("create 2;run 2;") == -1);
    failing_step = 3;
    CHECK(start("create 3;run 3;wait 3;") == -1);
    CHECK(start_bpf_program(NULL) == -1);
    failing_step = 0;
}

static void check_variables(const char *package, const char *expected) {
    cJSON *program = cJSON_Parse(package);
    CHECK(set_bpf_program_global_var(program, "pid", cJSON_CreateNumber(1)) == program);
    set_bpf_program_global_var(program, "pid", cJSON_CreateNumber(7));
    set_bpf_program_global_var(program, "other", cJSON_CreateBool(1));
    char *text = cJSON_PrintUnformatted(program);
    if (strcmp(text, expected) != 0)
        fprintf(stderr, "%s instead of %s\n", text, expected);
    CHECK(strcmp(text, expected) == 0);
    cJSON_free(text);
    cJSON_Delete(program);
}

static void test_variables_are_set_where_each_layout_has_them(void) {
    check_variables("{\"data\":\"\"}", "{\"data\":\"\",\"runtime_args\":{\"pid\":7,\"other\":true}}");
    check_variables("{\"runtime_args\":{\"a\":1,\"pid\":2}}",
                    "{\"runtime_args\":{\"a\":1,\"pid\":7,\"other\":true}}");
    check_variables("{\"runtime_args\":null}", "{\"runtime_args\":{\"pid\":7,\"other\":true}}");
#define META(variable)                                                                                       \
    "{\"meta\":{\"bpf_skel\":{\"data_sections\":[{\"name\":\".rodata\",\"variables\":[" variable "]}]}}"
    check_variables(META("{\"name\":\"pid\",\"type\":\"int\"}") "}",
                    META("{\"name\":\"pid\",\"type\":\"int\",\"value\":7}") ",\"runtime_args\":{\"pid\":7,"
                                                                            "\"other\":true}}");
    CHECK(!set_bpf_program_global_var(NULL, "pid", cJSON_CreateNumber(1)));
    cJSON *program = cJSON_CreateObject();
    CHECK(set_bpf_program_global_var(program, "pid", NULL) == program && !program->child);
    CHECK(set_bpf_program_global_var(program, NULL, cJSON_CreateNumber(1)) == program && !program->child);
    cJSON_Delete(program);
}

static char seen[128];

int main(int argc, const char **argv);

// The names that clang for WASM gives main.
int __main_argc_argv(int argc, char **argv) {
    return main(argc, (const char **)argv);
}

int __main_void(void) {
    return main(0, NULL);
}

int main(int argc, const char **argv) {
    static int is_guest;
    if (is_guest) {
        CHECK(!argv[argc]);
        for (int i = 0; i < argc; i++)
            snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "<%s>", argv[i]);
        return 40 + argc;
    }
    is_guest = 1;
    test_each_program_is_waited_for_by_its_own_number();
    test_variables_are_set_where_each_layout_has_them();

    char arguments[] = "[\"app\",\"-p\",\"a \\\"b\\\"\"]", none[] = "[]";
    CHECK(bpf_main(arguments, (int)strlen(arguments)) == 43 && strcmp(seen, "<app><-p><a \"b\">") == 0);
    seen[0] = '\0';
    CHECK(bpf_main(none, 2) == 41 && strcmp(seen, "<app>") == 0);
    char *wrong[] = {(char *)"", (char *)"{}", (char *)"[1]", (char *)"[\"a\"", (char *)"7"};
    for (size_t i = 0; i < COUNT(wrong); i++)
        CHECK(bpf_main(wrong[i], (int)strlen(wrong[i])) == 1);
    return 0;
}
