// The C functions that call back, with the Go side of the callback as a number (a cgo.Handle).
#ifndef EUNOMIA_GO_CALLBACK_H
#define EUNOMIA_GO_CALLBACK_H

#include <eunomia.h>

// As the functions of that name, with the log going to a Go function unless log is 0.
int eunomia_go_new(eunomia_vm **out, eunomia_options *options, uintptr_t log);

// As the functions of that name; poll does not wait.
int eunomia_go_poll(eunomia_vm *vm, uint32_t format, uintptr_t delivery);
int eunomia_go_map_each(eunomia_vm *vm, const char *map, uint32_t format, uintptr_t delivery);
int eunomia_go_iter_each(eunomia_vm *vm, const char *prog, uintptr_t delivery);
int eunomia_go_wasm_run(eunomia_vm *vm, int argc, const char *const *argv, int *exit_code, uint32_t format,
                        uintptr_t delivery);

#endif
