// A program that the verifier rejects: its log is in errdetail, and nothing is printed. Valgrind does not
// know that the kernel writes the log.
#include "test.h"

#include <sys/wait.h>

static void a_rejected_program_returns_the_verifier_log(void) {
    size_t len;
    char *object = read_file(package_path("rejected.o"), &len);
    eunomia_vm *other = empty_vm();
    ok(other, eunomia_open_object(other, object, len, NULL));
    free(object);
    CHECK_STATUS(EUNOMIA_ERR_VERIFIER, eunomia_load(other));
    CHECK_TEXT("read_nowhere", eunomia_errmsg(other));
    CHECK_TEXT("invalid mem access", eunomia_errdetail(other));
    CHECK(eunomia_errsys(other) == EACCES);
    CHECK_STATUS(EUNOMIA_ERR_VERIFIER, eunomia_attach(other));
    eunomia_destroy(other);
}

// Failures of every part, without a log function.
static void fail_silently(void) {
    size_t len;
    char *object = read_file(package_path("rejected.o"), &len);
    eunomia_options wrong = EUNOMIA_INIT(eunomia_options);
    eunomia_vm *vm = NULL;
    wrong.flags = 1u << 31;
    if (eunomia_new(&vm, &wrong) == EUNOMIA_OK || eunomia_new(&vm, NULL) != EUNOMIA_OK)
        _exit(2);
    if (eunomia_open(vm, "{", 1, EUNOMIA_KIND_ANY) == EUNOMIA_OK)
        _exit(3);
    if (eunomia_open_object(vm, object, len, NULL) < 0 || eunomia_attach(vm) == EUNOMIA_OK)
        _exit(4);
    eunomia_destroy(vm);
    _exit(0);
}

static void nothing_is_printed(void) {
    int status, file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    char text[256] = "";
    CHECK(file >= 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(file, 1);
        dup2(file, 2);
        fail_silently();
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(pread(file, text, sizeof(text) - 1, 0) == 0 || (fprintf(stderr, "printed: %s\n", text), false));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(file);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    RUN(a_rejected_program_returns_the_verifier_log);
    RUN(nothing_is_printed);
    return 0;
}
