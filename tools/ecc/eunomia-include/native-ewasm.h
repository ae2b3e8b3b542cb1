// The border between a guest and its host: three functions that the host has, and those that it calls in the
// guest.
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

// Opens a package, which is JSON of `str_len` bytes with a NUL behind it. Returns its number, from 0, or less
// than 0.
int create_bpf(char *ebpf_json, int str_len) EWASM_IMPORT(create_bpf);

// Loads and attaches a package by its number. Returns 0, or less.
int run_bpf(int id) EWASM_IMPORT(run_bpf);

// In place of a number: all packages that run.
#define EWASM_ALL_PROGRAMS (-1)

// Waits for events and calls `process_event` with each, until the host ends that. Returns 0, or less.
int wait_and_poll_bpf(int id) EWASM_IMPORT(wait_and_poll_bpf);

// Where the guest begins: `env_json` is a JSON array, the name of the program and its arguments. entry.h has
// one that calls main(argc, argv).
int bpf_main(char *env_json, int str_len) EWASM_EXPORT(bpf_main);

// Called with each event if the guest has such a function; without one, events go to the host as they are.
// `e` has `str_len` bytes, JSON with a NUL behind it unless `eunomia_event_format` says otherwise. What the
// guest writes there is what the host gets. A result below 0 drops the event. `ctx` means nothing.
int process_event(int ctx, char *e, int str_len) EWASM_EXPORT(process_event);

// Bytes that may be written to an event, its NUL included, however short it came.
#define EWASM_EVENT_ROOM 4096

// What `process_event` gets, if the guest has such a function: the struct of the BPF program, byte by byte,
// or JSON.
int eunomia_event_format(void) EWASM_EXPORT(eunomia_event_format);
#define EWASM_EVENT_RAW 0
#define EWASM_EVENT_JSON 1

// Called with the structs of many events at once if the guest has such a function, and then instead of
// `process_event`: `count` records in `len` bytes, see batch.h. A result below 0 drops all of them.
int process_events(char *records, int len, int count) EWASM_EXPORT(process_events);

#ifdef __cplusplus
}
#endif

#endif
