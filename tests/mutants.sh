#!/usr/bin/env bash
# mutants.sh CARGO_MUTANTS SHARD [PART...]: tries the mutants of one shard (K/N: each N-th, from the K-th on) of src/, and prints
# those that no test notices, and the score. A mutant of a part meets only the tests of that part.
# Works in a clone of HEAD in target/mutants, whose build directory is kept.
set -euo pipefail

mutants=$1 shard=$2
shift 2
[ $# -gt 0 ] || set -- package btf types render vm
cd "$(dirname "$0")/.."
work=$PWD/target/mutants
rm -rf "$work/tree"
mkdir -p "$work"
git clone --quiet --shared . "$work/tree"
cd "$work/tree"
export CARGO_TARGET_DIR=$work/tree/target CARGO_INCREMENTAL=1
# The build directory of the run before, under the path that its files name.
[ ! -d "$work/build" ] || mv "$work/build" target
trap 'mv "$work/tree/target" "$work/build"' EXIT

# The tests that cover a part.
tests_of() {
    case $1 in
    package) echo --test=package ;;
    btf) echo --test=types --test=excerpt ;;
    types) echo --test=types ;;
    render) echo --lib --test=types ;;
    vm) echo --test=vm --test=group --test=replace --test=rust_api --features=eunomia/channel ;;
    *) echo "mutants.sh: no part $1; the parts are package, btf, types, render and vm" >&2 && return 2 ;;
    esac
}

# The tests compile programs with the ecc that is built before the first mutant.
cargo build --quiet --workspace
for part; do
    read -ra tests <<<"$(tests_of "$part")"
    status=0
    rm -rf "${work:?}/$part"
    "$mutants" mutants --in-place --file "src/$part/**" --shard "$shard" --sharding round-robin --output "$work/$part" \
        --no-shuffle --colors never "${tests[@]/#/--cargo-arg=}" || status=$?
    # Exit status 2: there are mutants that no test noticed. 3: a mutant took too long, which counts as noticed.
    case $status in 0 | 2 | 3) ;; *) exit "$status" ;; esac
done
for part; do
    cd "$work/$part/mutants.out"
    sed 's/^/not noticed: /' missed.txt
    noticed=$(cat caught.txt timeout.txt | wc -l)
    echo "mutants $shard of $part: $noticed of $((noticed + $(wc -l <missed.txt))) noticed, $(wc -l <unviable.txt) do not compile"
done
