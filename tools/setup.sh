#!/usr/bin/env bash
# Makes a Debian 12 machine ready: installs the packages that are missing, checks Rust, mounts tracefs and bpffs.
# Says what it changes and nothing else; run again it changes nothing and says nothing.
# usage: tools/setup.sh [wasm|python|go|test|fuzz|bench|lint|vm]...   (each word adds what only that work needs)
set -euo pipefail
cd "$(dirname "$0")/.."

RUST_MIN=1.85
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}
has() { command -v "$1" >/dev/null || [ -e "$1" ]; }

packages=()
wants_venv=
# need COMMAND_OR_FILE PACKAGE
need() { has "$1" || packages+=("$2"); }

need_base() {
    need clang clang
    need make make
    need gcc gcc
    need /usr/include/stdio.h libc6-dev
    # cargo fetches the dependencies over TLS.
    need /etc/ssl/certs/ca-certificates.crt ca-certificates
    # WAMR is built with cmake, and its header read with libclang, which clang brings.
    need cmake cmake
    # libelf, libbpf and zlib are built from the sources that libbpf-sys brings.
    need autoreconf autoconf
    need aclocal automake
    need autopoint autopoint
    need bison bison
    need flex flex
    need gawk gawk
    need msgfmt gettext
    need libtoolize libtool
    need pkg-config pkg-config
}

need_wasm() {
    local builtins=(/usr/lib/llvm-*/lib/clang/*/lib/wasi/libclang_rt.builtins-wasm32.a)
    need wasm-ld lld
    need /usr/lib/wasm32-wasi/libc.a wasi-libc
    need "${builtins[0]}" libclang-rt-dev-wasm32
}

need_python() {
    need python3 python3
    # The part of Python that makes virtual environments.
    python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    wants_venv=yes
}

need_go() {
    need go golang-go
}

need_test() {
    need_wasm
    need g++ g++
    need groff groff-base
    # A host with its own libbpf is tested beside the one inside.
    need /usr/include/bpf/libbpf.h libbpf-dev
    need_python
    need_go
    need valgrind valgrind
    need bpftool bpftool
    need ip iproute2
    need setpriv util-linux
    need script bsdutils
    # What ecli pushes to and pulls from, and whose signatures it reads.
    need docker-registry docker-registry
    need minisign minisign
}

need_fuzz() {
    # libFuzzer is built from the sources that libfuzzer-sys brings.
    need g++ g++
}

need_bench() {
    need bpftrace bpftrace
    need taskset util-linux
}

need_lint() {
    need_python
    need_go
    check_rust_component fmt rustfmt
    check_rust_component clippy clippy
    need clang-format clang-format
    need shellcheck shellcheck
}

need_vm() {
    need qemu-system-x86_64 qemu-system-x86
    need busybox busybox-static
    need cpio cpio
    # Kernels are packed in one of these ways.
    need xz xz-utils
    need zstd zstd
    # What the examples watch goes into the virtual machine.
    need python3 python3
    need script bsdutils
    need losetup mount
}

install_packages() {
    [ ${#packages[@]} -gt 0 ] || return 0
    has apt-get || fail "no apt-get here; install the counterparts of these Debian packages: ${packages[*]}"
    say "installing ${packages[*]}"
    local log
    log=$(mktemp)
    if ! { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        fail "apt-get could not install the packages, see above"
    fi
    rm -f "$log"
}

check_rust() {
    local advice="get Rust $RUST_MIN or newer with rustup, see https://rustup.rs" found
    { has cargo && has rustc; } || fail "no cargo or rustc here; $advice"
    found=$(rustc --version | cut -d ' ' -f 2) || fail "rustc does not run; $advice"
    printf '%s\n' "$RUST_MIN" "$found" | sort -CV || fail "rustc $found is too old; $advice"
}

check_rust_component() {
    cargo "$1" --version >/dev/null 2>&1 || fail "cargo $1 is missing; run: rustup component add $2"
}

# Optional: with the sources of Rust's standard library, libeunomia.so is a quarter smaller.
add_std_source() {
    local source
    source=$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock
    { has "$source" || ! has rustup; } && return
    if rustup component add rust-src >/dev/null 2>&1; then
        say "added the Rust component rust-src"
    else
        say "rustup cannot add the component rust-src; libeunomia.so becomes a quarter larger without it"
    fi
}

# What the Python binding is checked and packed with, in the versions that its list names.
make_venv() {
    local list=bindings/python/requirements-dev.txt venv=target/venv log
    cmp -s "$list" "$venv/installed.txt" && return
    log=$(mktemp)
    if ! { python3 -m venv --clear "$venv" && "$venv/bin/pip" install -r "$list"; } >"$log" 2>&1; then
        cat "$log" >&2
        fail "pip could not install the packages of $list, see above"
    fi
    rm -f "$log"
    cp "$list" "$venv/installed.txt"
    say "made $venv with the packages of $list"
}

# mount_once TYPE DIRECTORY
mount_once() {
    mountpoint -q "$2" && return
    mount -t "$1" "$1" "$2" || fail "cannot mount $1 on $2, which programs at tracepoints and pinned maps need"
    say "mounted $1 on $2"
}

[ "$(id -u)" = 0 ] || fail "run as root: loading eBPF programs, installing packages and mounting need it"
export DEBIAN_FRONTEND=noninteractive

check_rust
add_std_source
need_base
for work in "$@"; do
    case $work in
    wasm | python | go | test | fuzz | bench | lint | vm) "need_$work" ;;
    *) fail "unknown word \"$work\"; usage: tools/setup.sh [wasm|python|go|test|fuzz|bench|lint|vm]..." ;;
    esac
done
install_packages
[ -z "$wants_venv" ] || make_venv

mount_once tracefs /sys/kernel/tracing
mount_once bpf /sys/fs/bpf
