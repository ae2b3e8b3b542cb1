#!/usr/bin/env bash
# run.sh KERNEL: boots Debian's kernel of that version in QEMU and runs tests there: those whose names begin with `vm_`, which
# need hooks that the kernels of some machines lack and are ignored elsewhere, and all tests of some files. `run.sh running`
# collects the results of the running kernel for docs/kernels.md, without QEMU. The tests use the packages of `make packages`;
# tests named `pack_` write the other files that they need before the boot.
set -euo pipefail

kernel=${1:?5.10, 6.1, 6.12, 7.2 or running}
cd "$(dirname "$0")/../.."
folder=target/vm/$kernel
mkdir -p "$folder"
commands=$folder/commands
console=$folder/console.log

# Files whose tests all run, except for those that cannot run there.
whole="examples vm"
left_out() {
    cat <<END
processes::bashreadline_can_probe_the_readline_of_another_program: compiles a program
a_package_takes_at_most_60_kb: does not depend on the kernel
END
}

# tests_of BINARY PREFIX: prints the names of its tests that begin with PREFIX.
tests_of() { "$1" --list --format terse | sed -n "s/^\(\(.*::\)\?$2.*\): test\$/\1/p"; }

# The same build as in `make test`. Only the library has tests for other kernels.
binaries=$(cargo test --workspace --features eunomia/channel --test '*' --no-run --message-format=json |
    grep -F "\"manifest_path\":\"$PWD/Cargo.toml\"" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')

if [ "$kernel" = running ]; then
    : >"$console"
    for binary in $binaries; do
        case $(basename "$binary") in
        examples-* | matrix-*) "$binary" --test-threads=1 --show-output ;;
        conformance-*)
            "$binary" --ignored pack_
            "$binary" --ignored vm_ --show-output
            ;;
        esac
    done | tee "$console"
    sed -n 's/^matrix //p' "$console" >"$folder/matrix.txt"
    exit
fi

image=$(tests/kernels/kernel.sh "$kernel")
tests/matrix/build.sh types
# Programs that tests trace, or of which they use an option that busybox lacks.
shopt -s nullglob
files=("$PWD"/target/packages/*/package.json "$PWD"/target/matrix/*/package.json
    /bin/bash /usr/bin/script /sbin/losetup "$(readlink -f /usr/bin/python3)" /usr/bin/python3
    /usr/lib/python3*/{encodings/,}{__init__,aliases,utf_8,ascii,latin_1,codecs,io,abc,os,stat,posixpath,genericpath,_collections_abc}.py)
expected=0
: >"$commands"
left_out | sed 's/^/left out: /'
for binary in $binaries; do
    name=$(basename "$binary")
    prefix=vm_
    [[ " $whole " != *" ${name%-*} "* ]] || prefix=
    mapfile -t tests < <(tests_of "$binary" "$prefix" | grep -vE '^(.*::)?pack_' | grep -vxFf <(left_out | sed 's/: [a-z].*//'))
    [ ${#tests[@]} -gt 0 ] || continue
    for pack in $(tests_of "$binary" pack_); do
        mapfile -t -O ${#files[@]} files < <("$binary" --ignored --exact "$pack" --nocapture | sed -nE 's/^(test .* )?pack //p')
    done
    expected=$((expected + ${#tests[@]}))
    files+=("$binary")
    echo "$name $binary --include-ignored --test-threads=1 --show-output --exact ${tests[*]}" >>"$commands"
done

boot() {
    if ! tests/kernels/boot.sh "$image" "$commands" "${files[@]}" | tee "$console"; then
        echo "the virtual machine did not power off by itself" >&2
    fi
}
boot
# While the kernel replaces an instruction, it puts a breakpoint in its place. QEMU's emulation with several threads may run the
# breakpoint after it has been removed; the kernel then stops. With one thread, which is slower, this cannot happen.
if grep -q 'Oops: int3' "$console"; then
    echo "the emulator ran a breakpoint that the kernel had removed; booting once more" >&2
    VM_ACCEL=tcg,thread=single boot
fi

# For docs/kernels.md.
sed -n 's/^matrix //p' "$console" >"$folder/matrix.txt"

# Every test that did not pass has failed, also one that crashed or was never reached.
passed=$(awk '/^test result: / { passed += $4 } END { print passed + 0 }' "$console")
echo "Linux $kernel: $passed passed, $((expected - passed)) failed"
[ "$passed" -gt 0 ] && [ "$passed" -eq "$expected" ]
