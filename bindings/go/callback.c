// Callbacks from C to Go. C keeps a number instead of a Go pointer.
#include "callback.h"

#include "_cgo_export.h"

static int on_event(void *arg, const eunomia_event *event) {
    return eunomiaGoEvent((uintptr_t)arg, (eunomia_event *)event);
}

static int on_batch(void *arg, const eunomia_records *records) {
    return eunomiaGoBatch((uintptr_t)arg, (eunomia_records *)records);
}

static int on_group_event(void *arg, const eunomia_event *event) {
    return eunomiaGoGroupEvent((uintptr_t)arg, (eunomia_event *)event);
}

static void on_log(void *arg, uint32_t level, const char *text) {
    eunomiaGoLog((uintptr_t)arg, level, (char *)text);
}

int eunomia_go_new(eunomia_vm **out, eunomia_options *options, uintptr_t log) {
    options->size = sizeof(*options);
    options->log = log ? on_log : NULL;
    options->log_arg = (void *)log;
    return eunomia_new(out, options);
}

int eunomia_go_poll(eunomia_vm *vm, uint32_t format, uintptr_t delivery) {
    return eunomia_poll(vm, 0, format, on_event, (void *)delivery);
}

int eunomia_go_poll_batch(eunomia_vm *vm, uintptr_t delivery) {
    return eunomia_poll_batch(vm, 0, on_batch, (void *)delivery);
}

int eunomia_go_group_add(eunomia_group *group, eunomia_vm *vm, uintptr_t key) {
    return eunomia_group_add(group, vm, (void *)key);
}

int eunomia_go_group_poll(eunomia_group *group, uint32_t format, uintptr_t delivery) {
    return eunomia_group_poll(group, 0, format, on_group_event, (void *)delivery);
}

int eunomia_go_map_each(eunomia_vm *vm, const char *map, uint32_t format, uintptr_t delivery) {
    return eunomia_map_each(vm, map, format, on_event, (void *)delivery);
}

int eunomia_go_iter_each(eunomia_vm *vm, const char *prog, uintptr_t delivery) {
    return eunomia_iter_each(vm, prog, on_event, (void *)delivery);
}

int eunomia_go_wasm_run(eunomia_vm *vm, int argc, const char *const *argv, int *exit_code, uint32_t format,
                        uintptr_t delivery) {
    return eunomia_wasm_run(vm, argc, argv, exit_code, format, on_event, (void *)delivery);
}

int eunomia_go_prog_run(eunomia_vm *vm, const char *prog, const void *data, size_t data_len, const void *ctx,
                        size_t ctx_len, void *data_out, size_t data_out_cap, void *ctx_out,
                        size_t ctx_out_cap, uint32_t repeat, eunomia_prog_result *out) {
    eunomia_prog_input in = EUNOMIA_INIT(eunomia_prog_input);
    in.data = data;
    in.data_len = data_len;
    in.ctx = ctx;
    in.ctx_len = ctx_len;
    in.data_out = data_out;
    in.data_out_cap = data_out_cap;
    in.ctx_out = ctx_out;
    in.ctx_out_cap = ctx_out_cap;
    in.repeat = repeat;
    out->size = sizeof(*out);
    return eunomia_prog_run(vm, prog, &in, out);
}
