#!/usr/bin/env bash
# install-tool.sh NAME: installs a tool of the weekly jobs in target/tools, unless its version is there, and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
cargo-deny) version=0.20.2 ;;
cargo-mutants) version=27.1.0 ;;
mdbook) version=0.5.4 ;;
*) echo "usage: tools/install-tool.sh cargo-deny|cargo-mutants|mdbook" >&2 && exit 2 ;;
esac
directory=$PWD/target/tools/$1-$version
if [ ! -e "$directory/bin/$1" ]; then
    # The build directory has a gigabyte, and nothing needs it afterwards.
    trap 'rm -rf "$directory/build"' EXIT
    cargo install --locked --quiet --root "$directory" --target-dir "$directory/build" "$1@$version" >&2
fi
echo "$directory/bin/$1"
