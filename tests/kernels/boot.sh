#!/usr/bin/env bash
# boot.sh IMAGE COMMANDS [FILE...]: boots a kernel image in QEMU, runs the lines of COMMANDS (see init) in it,
# and prints the console. The virtual machine has these FILEs under their own paths, programs with the shared
# libraries they load, busybox, and the modules beside the image; no disk, no network but loopback.
set -euo pipefail

image=$1 commands=$2
shift 2
here=$(dirname "$0")

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
root=$work/root
mkdir -p "$root/bin"
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$here/init" "$root/init"
cp "$commands" "$root/commands"
mkdir "$root/lib"
cp -r "$(dirname "$image")/modules" "$root/lib/modules"

for file in "$@"; do
    cp --parents -L "$file" "$root"
    # ldd fails for what is not a dynamic program; that brings no libraries.
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true); do
        cp --parents -L "$library" "$root"
    done
    # Debug information would be most of the machine's memory.
    strip --strip-debug "$root/$file" 2>/dev/null || true
done
(cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"

# lsm=bpf: Debian's kernels have programs of this kind, but ask them nothing unless told.
# Emulation, because nested virtualization is rarely to be had; -cpu max for the instructions JITs expect.
timeout "${VM_TIMEOUT:-300}" qemu-system-x86_64 -accel tcg -cpu max -m 1024 -smp 2 -nodefaults -no-reboot \
    -display none -serial stdio -kernel "$image" -initrd "$work/initrd" -append "console=ttyS0 panic=-1 quiet lsm=bpf" </dev/null | sed -u 's/\r$//'
