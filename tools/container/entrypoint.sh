#!/usr/bin/env bash
# Entry point of the container: compiles the BPF program in a directory and writes the output to the same directory.
# usage: entrypoint.sh [build | gen-wasm-skel | build-wasm] [ECC-OPTION]...   (the directory is $SRC, or /src)
set -euo pipefail

src=${SRC:-/src}
fail() {
    echo "$*" >&2
    exit 1
}

# only ENDING: prints the file with this ending; fails if there are several.
only() {
    local files=("$src"/*"$1")
    case ${#files[@]} in
    0) ;;
    1) printf '%s' "${files[0]}" ;;
    *) fail "$src: expected one file *$1, found ${#files[@]}" ;;
    esac
}

target=build
if [[ ${1:-} != -* && -n ${1:-} ]]; then
    target=$1
    shift
fi
case $target in
build) command=() ;;
gen-wasm-skel | build-wasm) command=("$target") ;;
*) fail "unknown target \"$target\"; expected build, gen-wasm-skel or build-wasm" ;;
esac

# The output belongs to the owner of the directory instead of root.
owner=$(stat -c %u "$src") || fail "$src not found; mount the directory of the program with -v DIR:$src"
if [[ $(id -u) = 0 && $owner != 0 ]]; then
    exec setpriv --reuid "$owner" --regid "$(stat -c %g "$src")" --clear-groups "$0" "$target" "$@"
fi

shopt -s nullglob
source=$(only .bpf.c)
[[ -n $source ]] || fail "$src: no file *.bpf.c found"
header=$(only .bpf.h)
options=()
if [[ -n $header && ! -e $src/event.h ]]; then
    # Programs for the first container of this kind include their header as event.h.
    alias=$(mktemp -d)
    trap 'rm -rf "$alias"' EXIT
    ln -s "$header" "$alias/event.h"
    options=(-a "-I'$alias'")
elif [[ -z $header && -e ${source%.bpf.c}.h ]]; then
    header=${source%.bpf.c}.h
fi
if [[ -e $src/config.json ]]; then
    echo "$src/config.json is ignored; describe the program in comments, see docs/package.md" >&2
fi
${ECC:-ecc} "${command[@]}" "$source" ${header:+"$header"} "${options[@]}" "$@"
