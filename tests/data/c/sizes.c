// Structs with a size field: callers with an older struct, a newer one, or uninitialized memory.
#include "test.h"

#define FILL 0x5a

static eunomia_vm *vm;
static const eunomia_type *event_type;
static uint64_t room[64];

// ---- structs that the library writes ----

typedef int (*fill_fn)(void *out);

static int fill_stats(void *out) {
    return eunomia_stats_get(vm, out);
}

static int fill_map_at(void *out) {
    return eunomia_map_at(vm, 0, out);
}

static int fill_map_find(void *out) {
    return eunomia_map_find(vm, "counts", out);
}

static int fill_source(void *out) {
    return eunomia_source_at(vm, 0, out);
}

static int fill_prog_at(void *out) {
    return eunomia_prog_at(vm, 0, out);
}

static int fill_prog_find(void *out) {
    return eunomia_prog_find(vm, "on_call", out);
}

static int fill_run(void *out) {
    uint64_t args[2] = {0, 0};
    eunomia_prog_input input = EUNOMIA_INIT(eunomia_prog_input);
    input.ctx = args;
    input.ctx_len = sizeof(args);
    return eunomia_prog_run(vm, "on_call", &input, out);
}

static int fill_field(void *out) {
    return eunomia_type_field(event_type, 1, out);
}

static int fill_read(void *out) {
    drain(vm);
    trigger(vm, 2);
    return eunomia_read(vm, 0, EUNOMIA_FORMAT_RAW, room, sizeof(room), out);
}

// Replaces by the same package, which changes nothing.
static int replace_with(const void *options) {
    size_t len;
    void *data = read_file(package_path("calls.json"), &len);
    int status = eunomia_replace(vm, data, len, options);
    free(data);
    return status;
}

static int fill_dump(void *out) {
    return eunomia_map_dump(vm, "counts", EUNOMIA_FORMAT_RAW, room, sizeof(room), out);
}

// Returns memory for a struct: all bytes FILL, except its size.
static void *prepare(size_t declared) {
    static uint64_t memory[8192 / 8];
    memset(memory, FILL, sizeof(memory));
    memcpy(memory, &declared, sizeof(declared));
    return memory;
}

static bool is_filled(const void *from, size_t start, size_t end) {
    const unsigned char *bytes = from;
    for (size_t i = start; i < end; i++)
        if (bytes[i] != FILL)
            return false;
    return true;
}

static void check_refused(fill_fn fill, size_t declared) {
    void *out = prepare(declared);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, fill(out));
    CHECK(is_filled(out, sizeof(size_t), 8192));
}

static void check_written(fill_fn fill, size_t declared, size_t mine) {
    size_t written = declared < mine ? declared : mine, stored;
    char *out = prepare(declared);
    CHECK(fill(out) >= 0);
    memcpy(&stored, out, sizeof(stored));
    CHECK(stored == written);
    CHECK(is_filled(out, written, 8192));
    CHECK(written == sizeof(size_t) || !is_filled(out, sizeof(size_t), written));
}

static void check_sizes(fill_fn fill, size_t mine) {
    check_refused(fill, 0);
    check_refused(fill, 4);
    check_refused(fill, 4097);
    check_refused(fill, SIZE_MAX);
    check_written(fill, sizeof(size_t), mine);
    check_written(fill, sizeof(size_t) + 8, mine);
    check_written(fill, mine - 8, mine);
    check_written(fill, mine, mine);
    check_written(fill, mine + 8, mine);
    check_written(fill, 4096, mine);
}

static void stats_fit_every_size(void) {
    check_sizes(fill_stats, sizeof(eunomia_stats));
}

static void map_info_fits_every_size(void) {
    check_sizes(fill_map_at, sizeof(eunomia_map_info));
    check_sizes(fill_map_find, sizeof(eunomia_map_info));
}

static void source_info_fits_every_size(void) {
    check_sizes(fill_source, sizeof(eunomia_source_info));
}

static void prog_info_fits_every_size(void) {
    check_sizes(fill_prog_at, sizeof(eunomia_prog_info));
    check_sizes(fill_prog_find, sizeof(eunomia_prog_info));
}

static void prog_result_fits_every_size(void) {
    check_sizes(fill_run, sizeof(eunomia_prog_result));
}

static void field_fits_every_size(void) {
    check_sizes(fill_field, sizeof(eunomia_field));
}

static void batch_fits_every_size(void) {
    check_sizes(fill_read, sizeof(eunomia_batch));
    check_sizes(fill_dump, sizeof(eunomia_batch));
}

// ---- the struct that the library reads ----

static int new_with(void *options) {
    eunomia_vm *made = NULL;
    int status = eunomia_new(&made, options);
    CHECK((status == EUNOMIA_OK) == (made != NULL));
    eunomia_destroy(made);
    return status;
}

// Returns options of a caller whose struct has `size` bytes; all zero except the log.
static void *options_of(size_t size) {
    static uint64_t memory[8192 / 8];
    eunomia_options *options = (eunomia_options *)memory;
    memset(memory, 0, sizeof(memory));
    options->size = size;
    options->log = keep_log;
    log_lines = 0;
    return memory;
}

static void options_without_a_size_fail(void) {
    CHECK_STATUS(EUNOMIA_ERR_INVAL, new_with(options_of(0)));
    CHECK(errno == EINVAL);
    CHECK_STATUS(EUNOMIA_ERR_INVAL, new_with(options_of(7)));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, new_with(options_of(4097)));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, new_with(options_of(SIZE_MAX)));
    CHECK(log_lines == 0);
}

static void short_options_have_defaults(void) {
    eunomia_options *options = options_of(offsetof(eunomia_options, perf_pages));
    options->perf_pages = 3; // not a power of two, but beyond this caller's struct
    CHECK_STATUS(EUNOMIA_OK, new_with(options));
    CHECK_STATUS(EUNOMIA_OK, new_with(options_of(sizeof(size_t))));
    CHECK_STATUS(EUNOMIA_OK, new_with(NULL));
}

static void long_options_work_if_the_tail_is_zero(void) {
    CHECK_STATUS(EUNOMIA_OK, new_with(options_of(sizeof(eunomia_options) + 1)));
    CHECK_STATUS(EUNOMIA_OK, new_with(options_of(4096)));
}

static void long_options_fail_if_the_tail_is_not_zero(void) {
    char *options = options_of(sizeof(eunomia_options) + 16), place[32];
    options[sizeof(eunomia_options) + 9] = 1;
    errno = 0;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, new_with(options));
    CHECK(errno == EINVAL && log_lines == 1);
    snprintf(place, sizeof(place), "options: byte %zu is not 0", sizeof(eunomia_options) + 9);
    CHECK_TEXT(place, log_line);
}

static void bad_options_fail_and_are_logged(void) {
    eunomia_options *options = options_of(sizeof(eunomia_options));
    options->flags = 32;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, new_with(options));
    CHECK_TEXT("options.flags is 0x20", log_line);
    options = options_of(sizeof(eunomia_options));
    options->log_level = 5;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, new_with(options));
    CHECK_TEXT("options.log_level is 5", log_line);
    options = options_of(sizeof(eunomia_options));
    options->perf_pages = 3;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, new_with(options));
    CHECK_TEXT("3", log_line);
}

static void replace_options_fit_every_size(void) {
    char memory[4096] = "";
    eunomia_replace_options *options = (eunomia_replace_options *)memory;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, replace_with(options));
    size_t sizes[] = {sizeof(size_t), sizeof(*options), sizeof(*options) + 8, sizeof(memory)};
    for (int i = 0; i < 4; i++) {
        options->size = sizes[i];
        ok(vm, replace_with(options));
    }
    memory[sizeof(*options)] = 1;
    CHECK_STATUS(EUNOMIA_ERR_INVAL, replace_with(options));
}

static int keep_type(void *arg, const eunomia_event *event) {
    (void)arg;
    CHECK(event->size == sizeof(eunomia_event));
    event_type = event->type;
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = running_vm();
    trigger(vm, 1);
    CHECK_STATUS(1, eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, keep_type, NULL));
    RUN(stats_fit_every_size);
    RUN(map_info_fits_every_size);
    RUN(source_info_fits_every_size);
    RUN(prog_info_fits_every_size);
    RUN(prog_result_fits_every_size);
    RUN(field_fits_every_size);
    RUN(batch_fits_every_size);
    RUN(replace_options_fit_every_size);
    RUN(options_without_a_size_fail);
    RUN(short_options_have_defaults);
    RUN(long_options_work_if_the_tail_is_zero);
    RUN(long_options_fail_if_the_tail_is_not_zero);
    RUN(bad_options_fail_and_are_logged);
    eunomia_destroy(vm);
    return 0;
}
