// eunomia_prog_run: test runs of programs.
#include "test.h"

static eunomia_vm *vm;
static const char packet[64] = "head, then the rest of a packet";

static eunomia_vm *open_runs(void) {
    size_t len;
    void *object = read_file(package_path("runs.o"), &len);
    eunomia_vm *opened = empty_vm();
    ok(opened, eunomia_open_object(opened, object, len, NULL));
    free(object);
    return opened;
}

static int run(const char *prog, eunomia_prog_input input, eunomia_prog_result *result) {
    input.size = sizeof(input);
    memset(result, 0, sizeof(*result));
    result->size = sizeof(*result);
    return eunomia_prog_run(vm, prog, &input, result);
}

static void a_packet_filter_returns_the_changed_packet(void) {
    char out[128];
    eunomia_prog_result result;
    eunomia_prog_input input = {
        .data = packet, .data_len = sizeof(packet), .data_out = out, .data_out_cap = sizeof(out)};
    memset(out, 0x5a, sizeof(out));
    ok(vm, run("cut", input, &result));
    CHECK(result.return_value == sizeof(packet) - 4 && result.data_len == sizeof(packet) - 4);
    CHECK(out[0] == 'x' && !memcmp(out + 1, packet + 5, sizeof(packet) - 5));
    CHECK(out[sizeof(packet) - 4] == 0x5a);
    CHECK(packet[0] == 'h');
}

static void a_filter_can_run_often_and_is_timed(void) {
    eunomia_prog_result result;
    eunomia_prog_input input = {.data = packet, .data_len = sizeof(packet), .repeat = 1000};
    // The packet is not restored between runs, so the last ones find it too short.
    ok(vm, run("cut", input, &result));
    CHECK(result.duration_ns > 0);
}

static void a_small_buffer_gets_the_required_size(void) {
    char out[128];
    eunomia_prog_result result;
    eunomia_prog_input input = {
        .data = packet, .data_len = sizeof(packet), .data_out = out, .data_out_cap = 8};
    CHECK_STATUS(EUNOMIA_ERR_TOO_SMALL, run("cut", input, &result));
    CHECK(result.data_len == sizeof(packet) - 4 && result.return_value == 0);
    CHECK_TEXT("60 bytes of data", eunomia_errmsg(vm));
    input.data_out_cap = result.data_len;
    ok(vm, run("cut", input, &result));
}

static void a_raw_tracepoint_gets_its_arguments(void) {
    uint64_t args[2] = {40, 2}, total = 0;
    size_t len = sizeof(total);
    eunomia_prog_result result;
    eunomia_prog_input input = {.ctx = args, .ctx_len = sizeof(args)};
    ok(vm, run("add", input, &result));
    CHECK(result.return_value == 7);
    ok(vm, eunomia_var_get(vm, "total", &total, &len));
    CHECK(total == 42);
}

static void input_that_does_not_fit_the_type_is_refused(void) {
    uint64_t args[2] = {0, 0};
    eunomia_prog_result result = EUNOMIA_INIT(eunomia_prog_result);
    eunomia_prog_input none = {0}, repeated = {.ctx = args, .ctx_len = sizeof(args), .repeat = 2};
    CHECK_STATUS(EUNOMIA_ERR_NOT_FOUND, run("none", none, &result));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, run("cut", none, &result)); // a packet has at least 14 bytes
    CHECK_TEXT("program \"cut\"", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, run("add", repeated, &result));
    CHECK_STATUS(EUNOMIA_ERR_UNSUPPORTED, run("nothing", none, &result));
}

static void malformed_arguments_are_refused(void) {
    char both[64] = "";
    eunomia_prog_result result = EUNOMIA_INIT(eunomia_prog_result);
    eunomia_prog_input none = {0}, missing = {.data_len = 64}, unknown = {.reserved = 1},
                       shared = {.data = both, .data_len = 64, .data_out = both, .data_out_cap = 64};
    CHECK_STATUS(EUNOMIA_ERR_INVAL, run("cut", shared, &result));
    CHECK_TEXT("overlap", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, run("cut", missing, &result));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, run("add", unknown, &result));
    CHECK_TEXT("reserved", eunomia_errmsg(vm));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_prog_run(vm, NULL, NULL, &result));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_prog_run(vm, "add", NULL, NULL));
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_prog_run(vm, "add", &none, &result)); // without its size
    CHECK_STATUS(EUNOMIA_ERR_INVAL, eunomia_prog_run(NULL, "add", NULL, &result));
}

static void a_program_runs_only_while_it_is_loaded(void) {
    eunomia_prog_result result = EUNOMIA_INIT(eunomia_prog_result);
    eunomia_vm *opened = open_runs(), *empty = empty_vm();
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_prog_run(empty, "add", NULL, &result));
    CHECK_STATUS(EUNOMIA_ERR_STATE, eunomia_prog_run(opened, "add", NULL, &result));
    CHECK_TEXT("not loaded", eunomia_errmsg(opened));
    eunomia_destroy(opened);
    eunomia_destroy(empty);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    vm = open_runs();
    ok(vm, eunomia_load(vm));
    RUN(a_packet_filter_returns_the_changed_packet);
    RUN(a_filter_can_run_often_and_is_timed);
    RUN(a_small_buffer_gets_the_required_size);
    RUN(a_raw_tracepoint_gets_its_arguments);
    RUN(input_that_does_not_fit_the_type_is_refused);
    RUN(malformed_arguments_are_refused);
    RUN(a_program_runs_only_while_it_is_loaded);
    eunomia_destroy(vm);
    return 0;
}
