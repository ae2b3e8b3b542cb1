#!/usr/bin/env bash
# Builds the library as it is shipped, in a folder of its own: in target/release a tool or a benchmark that uses the
# library would overwrite it with one of its own. Prints where it is.
# usage: tools/build-release.sh cdylib|staticlib [without-wasm]
# (one kind at a time: with several, cargo drops link-time optimisation)
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
flags=()
features=(--features own-libbpf)
if [ "${2:-}" = without-wasm ]; then
    features=(--no-default-features --features "capi,own-libbpf")
fi
small_std=()
last=()
# Where the sources of std are at hand, std is built as small as the rest, which a stable compiler does only for those
# who say that they know what they ask for. Without them the library is a quarter larger.
if [ -e "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; then
    export RUSTC_BOOTSTRAP=1
    small_std=("-Zbuild-std=std,panic_unwind" "-Zbuild-std-features=optimize_for_size")
    # Everything for size, but what each event goes through (`cfg(small)` in the sources) for speed. That pushes and pops a
    # lot, and how the stack then lies takes as much to describe as is saved, unless there is a frame pointer.
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=z
    flags+=("--cfg=small" "-Zunstable-options" "-Cforce-frame-pointers=non-leaf")
    # The place of a panic is its file, without the line: one place for each file, not for each call that may panic.
    flags+=("-Zlocation-detail=file")
    # When all is linked, what is small goes into its caller a little sooner: a function of its own has unwind tables (9 kB).
    last+=("-Cllvm-args=-inline-call-penalty=50" "-Cllvm-args=-inline-instr-cost=4")
    # C functions are called as the linker finds them, not through a table of their addresses (6 kB).
    flags+=("-Zplt=yes")
    # libbpf as small as gcc 12 can make it (3 kB).
    if "${CC:-cc}" -Oz -E -x c /dev/null -o /dev/null 2>/dev/null; then
        export LIBBPF_SYS_EXTRA_CFLAGS="-Oz ${LIBBPF_SYS_EXTRA_CFLAGS:-}"
    fi
fi
# No folder of this machine in the messages of panics.
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
for folder in "$PWD" "$(rustc --print sysroot)/lib/rustlib/src/rust/library" "$sources" "$sources"/*; do
    flags+=("--remap-path-prefix=$folder/=")
done
# Where Rust brings lld, which it does not use everywhere, that links: it packs tighter than GNU ld, and keeps one of
# functions that are the same and of strings that end alike (11 kB together).
linker=()
lld=$(rustc --print sysroot)/lib/rustlib/$host/bin/gcc-ld
if [ "$1" = cdylib ] && [ -e "$lld/ld.lld" ]; then
    linker=("-Clink-arg=-B$lld" "-Clink-arg=-fuse-ld=lld" "-Clink-arg=-Wl,-O2,--icf=all")
fi
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
cargo rustc --release --target-dir target/dist --target "$host" "${small_std[@]}" "${features[@]}" --lib --crate-type "$1" -- "${linker[@]}" "${last[@]}"
case $1 in
cdylib) echo "target/dist/$host/release/libeunomia.so" ;;
staticlib) echo "target/dist/$host/release/libeunomia.a" ;;
esac
