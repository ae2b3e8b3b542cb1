#!/usr/bin/env bash
# mutants.sh CARGO_MUTANTS SHARD: tries the mutants of one shard (K/N: each N-th, from the K-th on) of src/, and prints those
# that no test notices, and the score. Works in a clone of HEAD in target/mutants, whose build directory is kept.
set -euo pipefail

mutants=$1 shard=$2
cd "$(dirname "$0")/.."
work=$PWD/target/mutants
rm -rf "$work/tree"
mkdir -p "$work"
git clone --quiet --shared . "$work/tree"
cd "$work/tree"
export CARGO_TARGET_DIR=$work/tree/target
# The build directory of the run before, under the path that its files name.
[ ! -d "$work/build" ] || mv "$work/build" target
trap 'mv "$work/tree/target" "$work/build"' EXIT

# The tests compile programs with the ecc that stands before any mutant.
cargo build --quiet --workspace
status=0
# Exit status 2: there are mutants that no test noticed. 3: a mutant took too long, which counts as noticed.
"$mutants" mutants --in-place --shard "$shard" --sharding round-robin --output "$work" --no-shuffle --colors never || status=$?
[ "$status" = 2 ] || [ "$status" = 3 ] || [ "$status" = 0 ] || exit "$status"
cd "$work/mutants.out"
count() { wc -l <"$1.txt"; }
noticed=$(($(count caught) + $(count timeout)))
tested=$((noticed + $(count missed)))
sed 's/^/not noticed: /' missed.txt
echo "mutants $shard: $noticed of $tested noticed, $(count unviable) do not compile"
