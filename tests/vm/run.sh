#!/usr/bin/env bash
# run.sh KERNEL: boots Debian's kernel of that version in QEMU and runs the tests that are marked for it: those
# of tests/*.rs whose name begins with `vm_`. They need hooks which the kernel of a container host or a cloud
# machine may lack, and are ignored elsewhere. They find the example packages where `make packages` put them.
set -euo pipefail

kernel=${1:?5.10, 6.1, 6.12 or 7.2}
cd "$(dirname "$0")/../.."
image=$(tests/vm/kernel.sh "$kernel")
commands=target/vm/$kernel/commands
console=target/vm/$kernel/console.log

expected=0
shopt -s nullglob
files=("$PWD"/target/packages/*/package.json "$PWD"/target/matrix/*/package.json)
: >"$commands"
binaries=$(cargo test --test '*' --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
for binary in $binaries; do
    marked=$("$binary" --list --format terse | sed -n 's/^\(\(.*::\)\?vm_.*\): test$/\1/p')
    [ -n "$marked" ] || continue
    expected=$((expected + $(wc -l <<<"$marked")))
    files+=("$binary")
    echo "$(basename "$binary") $binary --include-ignored --test-threads=1 --show-output --exact ${marked//$'\n'/ }" >>"$commands"
done

if ! tests/vm/boot.sh "$image" "$commands" "${files[@]}" | tee "$console"; then
    echo "the virtual machine did not power off by itself" >&2
fi

# For docs/kernels.md.
sed -n 's/^matrix //p' "$console" >"target/vm/$kernel/matrix.txt"

# What did not pass failed: a crash, too, or what was never reached.
passed=$(awk '/^test result: / { passed += $4 } END { print passed + 0 }' "$console")
echo "Linux $kernel: $passed passed, $((expected - passed)) failed"
[ "$passed" -gt 0 ] && [ "$passed" -eq "$expected" ]
