// WASM packages while small allocations by C fail. WAMR frees an uninitialised pointer if it cannot allocate
// eight bytes for the end of an instance: valgrind finds that, and it may crash. The allocator of the library
// has a reserve.
#include "test.h"

#include <stdint.h>

void *__libc_malloc(size_t);

// Exported by the library with feature `faults`.
int eunomia_fault_rust_allocates(void);

static bool fails;
static int failures;

// Overrides that of the C library, also for the library under test.
void *malloc(size_t size) {
    if (!fails || size != sizeof(void *) || eunomia_fault_rust_allocates())
        return __libc_malloc(size);
    failures++;
    errno = ENOMEM;
    return NULL;
}

int main(int argc, char **argv) {
    static const char *const guest_argv[] = {"guest", "one", NULL};

    begin(argc, argv);
    for (int i = 0; i < 3; i++) {
        eunomia_vm *vm = empty_vm();
        int code = -1;

        CHECK_STATUS(EUNOMIA_KIND_WASM, eunomia_open_file(vm, package_path("hello.wasm"), EUNOMIA_KIND_ANY));
        fails = true;
        ok(vm, eunomia_wasm_run(vm, 2, guest_argv, &code, EUNOMIA_FORMAT_JSON, ignore_event, NULL));
        fails = false;
        CHECK(code == 5);
        eunomia_destroy(vm);
    }
    CHECK(failures > 0);
    return 0;
}
