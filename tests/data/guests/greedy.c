// A guest that loads its package or object repeatedly, with either interface, until this fails. Its exit code
// is the number of successes.
#include "package.h"

typedef unsigned long long u64;

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

#ifdef OBJECTS
IMPORT("wasm_bpf", "wasm_load_bpf_object") u64 load_object(const void *elf, int len);
IMPORT("wasm_bpf", "wasm_close_bpf_object") int close_object(u64 object);

#ifdef RENAME
// Changes the letter after "pinned_map_" in the object, so that its map gets its own pin.
static const char *renamed(void) {
    static char object[sizeof(package)], letter = 'a';
    const char *name = "pinned_map_";
    for (unsigned i = 0; i < sizeof(package); i++)
        object[i] = package[i];
    for (unsigned i = 0; i + 12 < sizeof(package); i++) {
        unsigned same = 0;
        while (same < 11 && object[i + same] == name[same])
            same++;
        if (same == 11)
            object[i + 11] = letter;
    }
    letter++;
    return object;
}
#else
static const char *renamed(void) {
    return package;
}
#endif

static int load(void) {
    u64 object = load_object(renamed(), sizeof(package) - 1);
#ifdef CLOSE
    if (object)
        close_object(object);
#endif
    return object != 0;
}
#else
IMPORT("env", "create_bpf") int create(const char *json, int len);
IMPORT("env", "run_bpf") int start(int id);

static int load(void) {
    int id = create(package, sizeof(package) - 1);
    return id >= 0 && start(id) == 0;
}
#endif

__attribute__((export_name("bpf_main"))) int bpf_main(char *json, int len) {
    (void)json, (void)len;
    int count = 0;
    while (count < 20 && load())
        count++;
    return count;
}
