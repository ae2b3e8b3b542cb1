#!/usr/bin/env bash
# run.sh [SECONDS [TARGET]...]: fuzzes each target (tests/fuzz/targets) for SECONDS, from the committed seeds and from
# the corpus of earlier runs in target/fuzz/corpus. Inputs of findings are stored in target/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-30}
shift || true
host=$(rustc -vV | sed -n 's/^host: //p')
work=$PWD/target/fuzz
export FUZZ_PACKAGES=$work/packages
mkdir -p "$work"

# Coverage for libFuzzer, and the address sanitizer. A stable compiler accepts the latter only
# with RUSTC_BOOTSTRAP.
export RUSTC_BOOTSTRAP=1
sancov="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# The same for libbpf and WAMR. clang cannot compile libelf.
cat >"$work/cc" <<'END'
#!/bin/sh
case "$*" in
*staticobjs* | *wasm-micro-runtime*.c*) ;;
*) exec cc "$@" ;;
esac
for argument; do
    shift
    # Options of gcc only.
    case $argument in
    -fno-ipa-icf-variables | -mindirect-branch-register) ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec clang -g1 -fsanitize=address -fsanitize-coverage=inline-8bit-counters,pc-table,trace-cmp "$@"
END
chmod +x "$work/cc"
RUSTFLAGS="${sancov//$'\n'/ } -Zsanitizer=address" CC=$work/cc cargo build --release \
    --manifest-path tests/fuzz/Cargo.toml --target "$host" --target-dir "$work"
for program in calls getpgid; do
    target/debug/ecc "tests/data/bpf/$program.bpf.c" -o "$FUZZ_PACKAGES/$program" >"$work/ecc.log" 2>&1 || { cat "$work/ecc.log"; exit 1; }
done

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs tests/fuzz/targets/*.rs)
# The targets check for leaks of kernel objects themselves. WAMR and libbpf keep memory for reuse.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
# fuzz TARGET: fuzzes one target and fails if something was found.
fuzz() {
    local target=$1 program=$work/$host/release/$1 log=$work/$1.log runs=0 edges=0
    mkdir -p "$work/corpus/$target" "$work/found"
    if "$program" "$work/corpus/$target" "tests/fuzz/seeds/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
        -max_len=16384 -print_final_stats=1 -artifact_prefix="$work/found/$target-" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    else
        grep -am 3 -A 3 'panicked at\|ERROR: \|SUMMARY: ' "$log"
        echo "$target: a finding, see $log; again: FUZZ_PACKAGES=$FUZZ_PACKAGES $program $(find "$work/found" -name "$target-*" | tail -n 1)"
    fi
    printf '%-8s %10d executions, %6d edges\n' "$target" "$runs" "${edges:-0}"
    # A program without coverage is fuzzed blindly, and one without the sanitizer misses memory errors that do not crash.
    [ "${edges:-0}" -gt 500 ] && nm "$program" | grep ' [TW] __asan_init$' >/dev/null
}

# Runs as many targets at the same time as there are processors.
processes=()
for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
        sleep 0.1
    done
    fuzz "$target" &
    processes+=($!)
done
passed=0
for process in "${processes[@]}"; do
    ! wait "$process" || passed=$((passed + 1))
done
failed=$((${#targets[@]} - passed))
echo "test result: $([ $failed -eq 0 ] && echo ok || echo FAILED). $passed passed; $failed failed; 0 ignored; of the fuzz targets"
[ $failed -eq 0 ]
