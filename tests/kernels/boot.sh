#!/usr/bin/env bash
# boot.sh IMAGE COMMANDS [FILE...]: boots a kernel image in QEMU, runs the lines of COMMANDS (see init) in it, and prints the
# console. The virtual machine contains each FILE under its own path, the shared libraries of programs, busybox, and the modules
# in the directory of the image. It has no disk, and no network except loopback.
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
    # ldd fails for files that are not dynamic programs; those need no libraries.
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true); do
        cp --parents -L "$library" "$root"
    done
    # Debug information would fill most of the memory.
    strip --strip-debug "$root/$file" 2>/dev/null || true
done
(cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"

# lsm=bpf: Debian's kernels support BPF LSM programs, but do not call them without this option. TCG, because nested
# virtualization is rarely available; -cpu max for the instructions that the JIT uses.
timeout "${VM_TIMEOUT:-600}" qemu-system-x86_64 -accel "${VM_ACCEL:-tcg}" -cpu max -m 1024 -smp 2 -nodefaults -no-reboot \
    -display none -serial stdio -kernel "$image" -initrd "$work/initrd" -append "console=ttyS0 panic=-1 quiet lsm=bpf" </dev/null | sed -u 's/\r$//'
