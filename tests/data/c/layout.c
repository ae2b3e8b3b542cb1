// Prints all sizes, offsets and values of the header, for a comparison with tests/data/abi/layout.txt.
#include <eunomia.h>
#include <stdio.h>

#define STRUCT(type) printf("%s %zu\n", #type, sizeof(type))
#define FIELD(type, field) printf("  %s %zu %zu\n", #field, offsetof(type, field), sizeof(((type *)0)->field))
#define VALUE(name) printf("%s %lld\n", #name, (long long)(name))

static void print_options(void) {
    STRUCT(eunomia_options);
    FIELD(eunomia_options, size);
    FIELD(eunomia_options, log_level);
    FIELD(eunomia_options, flags);
    FIELD(eunomia_options, log);
    FIELD(eunomia_options, log_arg);
    FIELD(eunomia_options, btf_path);
    FIELD(eunomia_options, pin_path);
    FIELD(eunomia_options, perf_pages);
    FIELD(eunomia_options, poll_budget);
    FIELD(eunomia_options, wasm_stack);
    FIELD(eunomia_options, wasm_heap);
    FIELD(eunomia_options, wasm_memory);
    FIELD(eunomia_options, wasm_budget_ms);
    FIELD(eunomia_options, wasm_dirs);
    FIELD(eunomia_options, max_kernel_memory);
}

static void print_event(void) {
    STRUCT(eunomia_event);
    FIELD(eunomia_event, size);
    FIELD(eunomia_event, kind);
    FIELD(eunomia_event, format);
    FIELD(eunomia_event, source);
    FIELD(eunomia_event, data);
    FIELD(eunomia_event, len);
    FIELD(eunomia_event, key);
    FIELD(eunomia_event, key_len);
    FIELD(eunomia_event, type);
    FIELD(eunomia_event, lost);
    FIELD(eunomia_event, cpu);
    FIELD(eunomia_event, reserved);
    FIELD(eunomia_event, time_ns);
    FIELD(eunomia_event, member);
}

static void print_stats(void) {
    STRUCT(eunomia_stats);
    FIELD(eunomia_stats, size);
    FIELD(eunomia_stats, events);
    FIELD(eunomia_stats, bytes);
    FIELD(eunomia_stats, lost_kernel);
    FIELD(eunomia_stats, lost_queue);
    FIELD(eunomia_stats, guest_dropped);
    FIELD(eunomia_stats, malformed);
    FIELD(eunomia_stats, polls);
    FIELD(eunomia_stats, replaces);
    FIELD(eunomia_stats, run_count);
    FIELD(eunomia_stats, run_ns);
    FIELD(eunomia_stats, lost_known);
    FIELD(eunomia_stats, reserved);
}

static void print_map_info(void) {
    STRUCT(eunomia_map_info);
    FIELD(eunomia_map_info, size);
    FIELD(eunomia_map_info, name);
    FIELD(eunomia_map_info, kind);
    FIELD(eunomia_map_info, key_size);
    FIELD(eunomia_map_info, value_size);
    FIELD(eunomia_map_info, max_entries);
    FIELD(eunomia_map_info, key_type);
    FIELD(eunomia_map_info, value_type);
    FIELD(eunomia_map_info, fd);
    FIELD(eunomia_map_info, cpus);
    FIELD(eunomia_map_info, bytes);
}

static void print_field(void) {
    STRUCT(eunomia_field);
    FIELD(eunomia_field, size);
    FIELD(eunomia_field, name);
    FIELD(eunomia_field, type);
    FIELD(eunomia_field, bit_offset);
    FIELD(eunomia_field, bit_size);
    FIELD(eunomia_field, value);
}

static void print_source_info(void) {
    STRUCT(eunomia_source_info);
    FIELD(eunomia_source_info, size);
    FIELD(eunomia_source_info, name);
    FIELD(eunomia_source_info, kind);
    FIELD(eunomia_source_info, interval_ms);
    FIELD(eunomia_source_info, record_size);
    FIELD(eunomia_source_info, reserved);
    FIELD(eunomia_source_info, type);
    FIELD(eunomia_source_info, key_type);
    FIELD(eunomia_source_info, events);
    FIELD(eunomia_source_info, lost);
    FIELD(eunomia_source_info, lost_known);
    FIELD(eunomia_source_info, reserved1);
}

static void print_prog_info(void) {
    STRUCT(eunomia_prog_info);
    FIELD(eunomia_prog_info, size);
    FIELD(eunomia_prog_info, name);
    FIELD(eunomia_prog_info, section);
    FIELD(eunomia_prog_info, target);
    FIELD(eunomia_prog_info, type);
    FIELD(eunomia_prog_info, flags);
    FIELD(eunomia_prog_info, id);
    FIELD(eunomia_prog_info, reserved);
    FIELD(eunomia_prog_info, run_count);
    FIELD(eunomia_prog_info, run_ns);
}

static void print_prog_run(void) {
    STRUCT(eunomia_prog_input);
    FIELD(eunomia_prog_input, size);
    FIELD(eunomia_prog_input, data);
    FIELD(eunomia_prog_input, data_len);
    FIELD(eunomia_prog_input, ctx);
    FIELD(eunomia_prog_input, ctx_len);
    FIELD(eunomia_prog_input, data_out);
    FIELD(eunomia_prog_input, data_out_cap);
    FIELD(eunomia_prog_input, ctx_out);
    FIELD(eunomia_prog_input, ctx_out_cap);
    FIELD(eunomia_prog_input, repeat);
    FIELD(eunomia_prog_input, reserved);
    STRUCT(eunomia_prog_result);
    FIELD(eunomia_prog_result, size);
    FIELD(eunomia_prog_result, return_value);
    FIELD(eunomia_prog_result, duration_ns);
    FIELD(eunomia_prog_result, data_len);
    FIELD(eunomia_prog_result, ctx_len);
}

static void print_replace_options(void) {
    STRUCT(eunomia_replace_options);
    FIELD(eunomia_replace_options, size);
    FIELD(eunomia_replace_options, flags);
    FIELD(eunomia_replace_options, reserved);
}

static void print_exported(void) {
    STRUCT(eunomia_exported);
    FIELD(eunomia_exported, size);
    FIELD(eunomia_exported, description);
    FIELD(eunomia_exported, fds);
    FIELD(eunomia_exported, count);
}

static void print_batch(void) {
    STRUCT(eunomia_span);
    FIELD(eunomia_span, data);
    FIELD(eunomia_span, len);
    STRUCT(eunomia_records);
    FIELD(eunomia_records, size);
    FIELD(eunomia_records, kind);
    FIELD(eunomia_records, source_index);
    FIELD(eunomia_records, source);
    FIELD(eunomia_records, spans);
    FIELD(eunomia_records, count);
    FIELD(eunomia_records, key);
    FIELD(eunomia_records, key_len);
    FIELD(eunomia_records, type);
    FIELD(eunomia_records, lost);
    FIELD(eunomia_records, cpu);
    FIELD(eunomia_records, reserved);
    FIELD(eunomia_records, time_ns);
    STRUCT(eunomia_batch);
    FIELD(eunomia_batch, size);
    FIELD(eunomia_batch, len);
    FIELD(eunomia_batch, need);
    FIELD(eunomia_batch, source);
    FIELD(eunomia_batch, count);
    FIELD(eunomia_batch, time_ns);
    FIELD(eunomia_batch, stride);
    FIELD(eunomia_batch, kind);
    FIELD(eunomia_batch, name);
    FIELD(eunomia_batch, type);
    STRUCT(eunomia_record);
    FIELD(eunomia_record, size);
    FIELD(eunomia_record, len);
    FIELD(eunomia_record, key_len);
    FIELD(eunomia_record, cpu);
}

static void print_statuses(void) {
    VALUE(EUNOMIA_OK);
    VALUE(EUNOMIA_ERR_INVAL);
    VALUE(EUNOMIA_ERR_STATE);
    VALUE(EUNOMIA_ERR_BUSY);
    VALUE(EUNOMIA_ERR_NOMEM);
    VALUE(EUNOMIA_ERR_NOT_FOUND);
    VALUE(EUNOMIA_ERR_TOO_SMALL);
    VALUE(EUNOMIA_ERR_PACKAGE);
    VALUE(EUNOMIA_ERR_TYPE);
    VALUE(EUNOMIA_ERR_PERM);
    VALUE(EUNOMIA_ERR_UNSUPPORTED);
    VALUE(EUNOMIA_ERR_VERIFIER);
    VALUE(EUNOMIA_ERR_ATTACH);
    VALUE(EUNOMIA_ERR_SYSTEM);
    VALUE(EUNOMIA_ERR_WASM);
    VALUE(EUNOMIA_ERR_STOPPED);
    VALUE(EUNOMIA_ERR_CALLBACK);
    VALUE(EUNOMIA_ERR_INTERNAL);
}

static void print_constants(void) {
    VALUE(EUNOMIA_KIND_JSON);
    VALUE(EUNOMIA_KIND_WASM);
    VALUE(EUNOMIA_WASM_RAW_EVENTS);
    VALUE(EUNOMIA_WASM_STDIO);
    VALUE(EUNOMIA_SKIP_MISSING_HOOKS);
    VALUE(EUNOMIA_LIBBPF_SECTIONS);
    VALUE(EUNOMIA_REPLACEABLE);
    VALUE(EUNOMIA_REPLACE_FRESH_MAPS);
    VALUE(EUNOMIA_REPLACE_STRICT_MAPS);
    VALUE(EUNOMIA_REPLACE_FRESH_VARS);
    VALUE(EUNOMIA_REPLACE_ORDERED);
    VALUE(EUNOMIA_REPLACE_KEEP_OLD);
    VALUE(EUNOMIA_REPLACE_MIGRATE_MAPS);
    VALUE(EUNOMIA_REPLACE_CARRY_DATA);
    VALUE(EUNOMIA_REPLACE_ALLOW_OVERLAP);
    VALUE(EUNOMIA_REPLACE_ALLOW_GAP);
    VALUE(EUNOMIA_EXPORT_PREPARED);
    VALUE(EUNOMIA_EXPORT_ALL);
    VALUE(EUNOMIA_KIND_ANY);
    VALUE(EUNOMIA_FORMAT_RAW);
    VALUE(EUNOMIA_FORMAT_JSON);
    VALUE(EUNOMIA_FORMAT_TEXT);
    VALUE(EUNOMIA_EVENT_SAMPLE);
    VALUE(EUNOMIA_EVENT_LOST);
    VALUE(EUNOMIA_EVENT_MAP_ENTRY);
    VALUE(EUNOMIA_EVENT_HEADER);
    VALUE(EUNOMIA_EVENT_OUTPUT);
    VALUE(EUNOMIA_EVENT_ROUND);
    VALUE(EUNOMIA_LOG_ERROR);
    VALUE(EUNOMIA_LOG_WARN);
    VALUE(EUNOMIA_LOG_INFO);
    VALUE(EUNOMIA_LOG_DEBUG);
}

static void print_subjects(void) {
    VALUE(EUNOMIA_SUBJECT_NONE);
    VALUE(EUNOMIA_SUBJECT_VARIABLE);
    VALUE(EUNOMIA_SUBJECT_MAP);
    VALUE(EUNOMIA_SUBJECT_PROGRAM);
    VALUE(EUNOMIA_SUBJECT_METADATA);
    VALUE(EUNOMIA_SUBJECT_FILE);
}

static void print_kinds(void) {
    VALUE(EUNOMIA_TYPE_INT);
    VALUE(EUNOMIA_TYPE_UINT);
    VALUE(EUNOMIA_TYPE_BOOL);
    VALUE(EUNOMIA_TYPE_CHAR);
    VALUE(EUNOMIA_TYPE_FLOAT);
    VALUE(EUNOMIA_TYPE_ENUM);
    VALUE(EUNOMIA_TYPE_POINTER);
    VALUE(EUNOMIA_TYPE_ARRAY);
    VALUE(EUNOMIA_TYPE_STRUCT);
    VALUE(EUNOMIA_TYPE_UNION);
    VALUE(EUNOMIA_SOURCE_RING);
    VALUE(EUNOMIA_SOURCE_PERF);
    VALUE(EUNOMIA_SOURCE_MAP);
    VALUE(EUNOMIA_LOST_NOT_COUNTED);
    VALUE(EUNOMIA_LOST_REPORTED);
    VALUE(EUNOMIA_LOST_ALL);
    VALUE(EUNOMIA_PROG_AUTOLOAD);
    VALUE(EUNOMIA_PROG_LOADED);
    VALUE(EUNOMIA_PROG_ATTACHED);
}

int main(void) {
    print_options();
    print_event();
    print_stats();
    print_map_info();
    print_field();
    print_source_info();
    print_prog_info();
    print_prog_run();
    print_replace_options();
    print_exported();
    print_batch();
    print_statuses();
    print_constants();
    print_kinds();
    print_subjects();
    return 0;
}
