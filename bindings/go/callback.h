// The C functions that call back. The Go side of a callback is passed as a number, a cgo.Handle.
#ifndef EUNOMIA_GO_CALLBACK_H
#define EUNOMIA_GO_CALLBACK_H

#include <eunomia.h>

// Like eunomia_new. If log is not 0, log lines go to a Go function.
int eunomia_go_new(eunomia_vm **out, eunomia_options *options, uintptr_t log);

// Like the functions of the same names without _go; poll and poll_batch do not wait.
int eunomia_go_poll(eunomia_vm *vm, uint32_t format, uintptr_t delivery);
int eunomia_go_poll_batch(eunomia_vm *vm, uintptr_t delivery);
int eunomia_go_group_add(eunomia_group *group, eunomia_vm *vm, uintptr_t key);
int eunomia_go_group_poll(eunomia_group *group, uint32_t format, uintptr_t delivery);
int eunomia_go_map_each(eunomia_vm *vm, const char *map, uint32_t format, uintptr_t delivery);
int eunomia_go_iter_each(eunomia_vm *vm, const char *prog, uintptr_t delivery);
int eunomia_go_wasm_run(eunomia_vm *vm, int argc, const char *const *argv, int *exit_code, uint32_t format,
                        uintptr_t delivery);

// Calls eunomia_prog_run. The pointers to the input are parameters of this function, because Go must not pass
// a struct of Go pointers.
int eunomia_go_prog_run(eunomia_vm *vm, const char *prog, const void *data, size_t data_len, const void *ctx,
                        size_t ctx_len, void *data_out, size_t data_out_cap, void *ctx_out,
                        size_t ctx_out_cap, uint32_t repeat, eunomia_prog_result *out);

#endif
