#!/usr/bin/env bash
# What the container does: compiles the one BPF program in a folder, and leaves what it makes there.
# usage: entrypoint.sh [build | gen-wasm-skel | build-wasm] [OPTION OF ECC]...   (the folder: $SRC, else /src)
set -euo pipefail

src=${SRC:-/src}
fail() {
    echo "$*" >&2
    exit 1
}

# The files of one kind, at most one.
only() {
    local files=("$src"/*"$1")
    case ${#files[@]} in
    0) ;;
    1) printf '%s' "${files[0]}" ;;
    *) fail "$src: there are ${#files[@]} files *$1, and only one is expected" ;;
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
*) fail "unknown target \"$target\"; there are build, gen-wasm-skel, build-wasm" ;;
esac

# What is made belongs to whoever the folder belongs to, not to root.
owner=$(stat -c %u "$src") || fail "mount the folder of the program: -v DIR:$src"
if [[ $(id -u) = 0 && $owner != 0 ]]; then
    exec setpriv --reuid "$owner" --regid "$(stat -c %g "$src")" --clear-groups "$0" "$target" "$@"
fi

shopt -s nullglob
source=$(only .bpf.c)
[[ -n $source ]] || fail "$src: there is no file *.bpf.c"
header=$(only .bpf.h)
options=()
if [[ -n $header && ! -e $src/event.h ]]; then
    # Programs for the first of these containers include their header as event.h.
    alias=$(mktemp -d)
    trap 'rm -rf "$alias"' EXIT
    ln -s "$header" "$alias/event.h"
    options=(-a "-I'$alias'")
elif [[ -z $header && -e ${source%.bpf.c}.h ]]; then
    header=${source%.bpf.c}.h
fi
if [[ -e $src/config.json ]]; then
    echo "$src/config.json is not read: describe the program in comments, see docs/package.md" >&2
fi
${ECC:-ecc} "${command[@]}" "$source" ${header:+"$header"} "${options[@]}" "$@"
