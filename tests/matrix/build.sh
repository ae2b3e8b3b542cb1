#!/usr/bin/env bash
# build.sh [types|features]: compiles what the kernel matrix loads to target/matrix: a package for each type of map, the two
# event buffers, struct_ops, and (alone with `types`) one that contains the types of this kernel and of those that
# tests/kernels has. The package of the program types is committed (features.json), so that all kernels get the same
# bytes; `features` builds it again and stores its digest.
set -euo pipefail
cd "$(dirname "$0")"

ecc=../../target/debug/ecc
out=../../target/matrix

# The directories are those of a BTFHub archive.
types() {
    local archive kernel
    archive=$out/archive/debian/any/$(uname -m)
    mkdir -p "$archive"
    cp /sys/kernel/btf/vmlinux "$archive/$(uname -r).btf"
    for kernel in ../../target/vm/*/btf; do
        [ ! -e "$kernel" ] || cp "$kernel" "$archive/$(ls "$(dirname "$kernel")/modules").btf"
    done
    "$ecc" bpf/features.bpf.c -b --btfhub-archive "$out/archive" -o "$out/types"
}

case ${1-} in
types)
    types
    exit
    ;;
features)
    "$ecc" bpf/features.bpf.c -o "$out/features"
    cp "$out/features/package.json" features.json
    sha256sum features.json | cut -d ' ' -f 1 >features.sha256
    exit
    ;;
esac

types
"$ecc" bpf/struct_ops.bpf.c -o "$out/struct_ops"
"$ecc" bpf/events.bpf.c -o "$out/ringbuf"
"$ecc" bpf/events.bpf.c -a -DPERF -o "$out/perfbuf"
while read -r kind shape; do
    "$ecc" bpf/map.bpf.c -a "-DKIND=BPF_MAP_TYPE_${kind^^} -D${shape:-KEYED}" -o "$out/map-$kind"
done <maps.txt
