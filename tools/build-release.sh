#!/usr/bin/env bash
# Builds the library for a release and prints its path. It has a build directory of its own, because tools and benchmarks that
# use the library would overwrite it in target/release.
# usage: tools/build-release.sh cdylib|staticlib [without-wasm]   (one kind at a time: with both, cargo disables link-time optimisation)
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
# If the sources of std are installed, std is built for size, too. A stable compiler does that only with RUSTC_BOOTSTRAP.
# Without the sources the library is a quarter larger.
if [ -e "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; then
    export RUSTC_BOOTSTRAP=1
    small_std=("-Zbuild-std=std,panic_unwind" "-Zbuild-std-features=optimize_for_size")
    # Optimise everything for size, except functions that run once per event (`cfg(small)` in the sources). Code for size pushes
    # and pops often; without a frame pointer the unwind tables would grow by as much as the code shrinks.
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=z
    flags+=("--cfg=small" "-Zunstable-options" "-Cforce-frame-pointers=non-leaf")
    # A panic has no location, only its message (saves 17 kB, 7 kB more than with the file alone).
    flags+=("-Zlocation-detail=none")
    # A panic in a destructor ends the process. Such a panic leaves nothing that could be used again, and functions need no code
    # that continues the cleanup after one (saves 31 kB).
    flags+=("-Zpanic-in-drop=abort")
    # Inline small functions more eagerly at link time, since each function has unwind tables (saves 9 kB).
    last+=("-Cllvm-args=-inline-call-penalty=50" "-Cllvm-args=-inline-instr-cost=4")
    # No unwind table for a function that cannot panic: nothing unwinds through it (saves 6 kB).
    last+=("-Cllvm-args=-force-remove-attribute=uwtable")
    # A table of jumps only for eight cases or more; comparisons are smaller than a short table (saves 1 kB).
    last+=("-Cllvm-args=-min-jump-table-entries=8")
    # Call C functions directly instead of through a table of addresses (saves 6 kB).
    flags+=("-Zplt=yes")
    # Compile libbpf with -Oz if the compiler supports it, as gcc 12 does (saves 3 kB), and without seven of gcc's optimisations
    # that -Oz does not turn off although they copy code (saves 6 kB).
    # Tables of jumps make it smaller, unlike the other C parts (see below).
    small_c=(-Oz -fno-expensive-optimizations -fno-move-loop-invariants -fjump-tables -foptimize-sibling-calls)
    small_c+=(-fno-tree-dominator-opts -fno-caller-saves -fno-tree-coalesce-vars -fno-tree-loop-im -fno-tree-tail-merge)
    if "${CC:-cc}" "${small_c[@]}" -E -x c /dev/null -o /dev/null 2>/dev/null; then
        export LIBBPF_SYS_EXTRA_CFLAGS="${small_c[*]} ${LIBBPF_SYS_EXTRA_CFLAGS:-}"
    fi
fi
# Flags of WAMR, libelf and zlib:
# - no log of WAMR, which nothing reads: the definition makes each message a debug message, and a release of WAMR contains
#   none of these (saves 6 kB). A debug build of WAMR cannot use this definition, because the name would refer to itself.
# - comparisons instead of tables of jumps, and calls instead of jumps to other functions (saves 2 kB; the interpreter has a
#   table of its own). zlib computes its checksum one byte at a time (saves 1 kB, and 24 kB of memory).
cflags=CFLAGS_${host//-/_}
export "$cflags=${!cflags:-} -DBH_LOG=LOG_DEBUG -DZ_TESTW=0 -fno-jump-tables -fno-optimize-sibling-calls"
# Cargo does not notice when these flags change, so WAMR is built again then.
stamp=target/dist/wamr-flags
if [ "$(cat "$stamp" 2>/dev/null)" != "${!cflags}" ]; then
    cargo clean --quiet --release --target-dir target/dist --target "$host" --package wamrx-sys
    mkdir -p target/dist
    printf '%s' "${!cflags}" >"$stamp"
fi
# No paths of this machine in panic messages.
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
for folder in "$PWD" "$(rustc --print sysroot)/lib/rustlib/src/rust/library" "$sources" "$sources"/*; do
    flags+=("--remap-path-prefix=$folder/=")
done
# Link with the lld of the Rust toolchain, if it has one: its output is smaller than that of GNU ld, and it merges identical
# functions and strings with a common end (saves 11 kB).
linker=()
lld=$(rustc --print sysroot)/lib/rustlib/$host/bin/gcc-ld
if [ "$1" = cdylib ] && [ -e "$lld/ld.lld" ]; then
    linker=("-Clink-arg=-B$lld" "-Clink-arg=-fuse-ld=lld" "-Clink-arg=-Wl,-O2,--icf=all")
    # Put the functions of the event path next to each other (one event alone takes 15 % less time).
    map=target/dist/libeunomia.map
    linker+=("-Clink-arg=$PWD/tools/event-path.ld" "-Clink-arg=-Wl,-Map=$PWD/$map")
    # Pack the relocations. The library applies them itself (src/os/relocate.rs), because glibc before 2.36 cannot (saves 28 kB).
    case $host in x86_64-* | aarch64-*)
        linker+=("--cfg=packed_relocations" "-Clink-arg=-Wl,--pack-dyn-relocs=relr,--use-android-relr-tags,-init=eunomia_relocate")
        ;;
    esac
fi
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
cargo rustc --release --target-dir target/dist --target "$host" "${small_std[@]}" "${features[@]}" --lib --crate-type "$1" -- "${linker[@]}" "${last[@]}"
# A function that was renamed would leave the event path silently.
if [ "${#linker[@]}" -gt 0 ] && [ "${#small_std[@]}" -gt 0 ]; then
    while read -r name; do
        regex=${name//./\\.}
        grep -q ":(${regex//\*/.*})" "$map" || { echo "tools/event-path.ld: nothing matches $name" >&2 && exit 1; }
    done < <(grep -o '\.text\.[^ )]*' tools/event-path.ld | grep -v '^\.text\.events$')
fi
case $1 in
cdylib) echo "target/dist/$host/release/libeunomia.so" ;;
staticlib) echo "target/dist/$host/release/libeunomia.a" ;;
esac
