#!/usr/bin/env bash
# build.sh: compiles what the kernel matrix loads to target/matrix: a package for each type of map, the two event buffers, and
# struct_ops. The package of the program types is committed (features.json), so that all kernels get the same bytes;
# `build.sh features` makes it anew and writes down its digest.
set -euo pipefail
cd "$(dirname "$0")"

ecc=../../target/debug/ecc
out=../../target/matrix
if [ "${1-}" = features ]; then
    "$ecc" bpf/features.bpf.c -o "$out/features"
    cp "$out/features/package.json" features.json
    sha256sum features.json | cut -d ' ' -f 1 >features.sha256
    exit
fi

"$ecc" bpf/struct_ops.bpf.c -o "$out/struct_ops"
"$ecc" bpf/events.bpf.c -o "$out/ringbuf"
"$ecc" bpf/events.bpf.c -a -DPERF -o "$out/perfbuf"
while read -r kind shape; do
    "$ecc" bpf/map.bpf.c -a "-DKIND=BPF_MAP_TYPE_${kind^^} -D${shape:-KEYED}" -o "$out/map-$kind"
done <maps.txt
