// The interface between a guest and its host: the functions of the host, and the functions that it calls in
// the guest.
#ifndef NATIVE_EWASM_H_
#define NATIVE_EWASM_H_

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __wasm__
#define EWASM_IMPORT(name) __attribute__((import_module("env"), import_name(#name)))
#define EWASM_EXPORT(name) __attribute__((export_name(#name)))
#else
#define EWASM_IMPORT(name)
#define EWASM_EXPORT(name)
#endif

// Opens a package, a NUL-terminated JSON string of `str_len` bytes. Returns its number, 0 or more, or a
// negative number on failure.
int create_bpf(char *ebpf_json, int str_len) EWASM_IMPORT(create_bpf);

// Loads and attaches a package by its number. Returns 0, or a negative number on failure.
int run_bpf(int id) EWASM_IMPORT(run_bpf);

// The number that means all running packages.
#define EWASM_ALL_PROGRAMS (-1)

// Waits for events and calls `process_event` with each until the host ends the run. Returns only on failure,
// with a negative number.
int wait_and_poll_bpf(int id) EWASM_IMPORT(wait_and_poll_bpf);

// The main function of the guest. `env_json` is a JSON array of the program's name and its arguments. entry.h
// defines one that calls main(argc, argv). Returns the exit code.
int bpf_main(char *env_json, int str_len) EWASM_EXPORT(bpf_main);

// Optional. Called with each event; without this function, events go straight to the host. `e` is
// NUL-terminated JSON of `str_len` bytes, or the struct of the BPF program, see `eunomia_event_format`. The
// guest may change it in place, and the host gets the result. A negative result drops the event. Ignore
// `ctx`.
int process_event(int ctx, char *e, int str_len) EWASM_EXPORT(process_event);

// Number of bytes, including the NUL, that may be written to an event of any length.
#define EWASM_EVENT_ROOM 4096

// Optional. Returns the format of the events that `process_event` gets: the struct of the BPF program as
// bytes, or JSON.
int eunomia_event_format(void) EWASM_EXPORT(eunomia_event_format);
#define EWASM_EVENT_RAW 0
#define EWASM_EVENT_JSON 1

// Optional. Called instead of `process_event` with many events at once: `count` records in `len` bytes, see
// batch.h. A negative result drops all of them.
int process_events(char *records, int len, int count) EWASM_EXPORT(process_events);

#ifdef __cplusplus
}
#endif

#endif
