#!/usr/bin/env bash
# Prepares a Debian 12 machine: installs missing packages, checks Rust, mounts tracefs and bpffs.
# Prints each change that it makes; a second run changes and prints nothing.
# usage: tools/setup.sh [wasm|python|go|test|fuzz|bench|lint|vm|deb|container|release]...   (each word adds the packages of one task)
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
needs_venv=
# need COMMAND_OR_FILE PACKAGE
need() { has "$1" || packages+=("$2"); }

need_base() {
    need clang clang
    need make make
    need gcc gcc
    need /usr/include/stdio.h libc6-dev
    # cargo downloads the dependencies over TLS.
    need /etc/ssl/certs/ca-certificates.crt ca-certificates
    # WAMR is built with cmake; bindgen reads its header with libclang, which the package clang installs.
    need cmake cmake
    # libelf, libbpf and zlib are built from the sources in the crate libbpf-sys.
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
    # Virtual environments are a package of their own.
    python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    needs_venv=yes
}

need_go() {
    need go golang-go
}

need_test() {
    need_wasm
    need g++ g++
    need groff groff-base
    # The tests also link hosts with Debian's libbpf.
    need /usr/include/bpf/libbpf.h libbpf-dev
    need_python
    need_go
    need valgrind valgrind
    need bpftool bpftool
    need ip iproute2
    need setpriv util-linux
    need script bsdutils
    # The registry and the signatures that ecli is tested with.
    need docker-registry docker-registry
    need minisign minisign
    # Scrapes the exporter; promtool checks its text.
    need prometheus prometheus
    # The downloaders and verifiers that install.sh supports.
    need curl curl
    need wget wget
    need openssl openssl
    # The tests run the server's units under systemd.
    need /lib/systemd/systemd systemd
}

need_deb() {
    need dpkg-shlibdeps dpkg-dev
}

need_container() {
    need podman podman
}

need_release() {
    need debootstrap debootstrap
    need_python
}

need_fuzz() {
    # libFuzzer is built from the sources in the crate libfuzzer-sys.
    need g++ g++
}

need_bench() {
    need bpftrace bpftrace
    need taskset util-linux
}

need_lint() {
    need_python
    need_go
    need_rust_component fmt rustfmt
    need_rust_component clippy clippy
    need clang-format clang-format
    need shellcheck shellcheck
}

need_vm() {
    need qemu-system-x86_64 qemu-system-x86
    need busybox busybox-static
    need cpio cpio
    # The disk of `make vm-system`.
    need mke2fs e2fsprogs
    # The formats in which kernels are compressed.
    need xz xz-utils
    need zstd zstd
    # Programs that the examples trace; they are copied into the virtual machine.
    need python3 python3
    need script bsdutils
    need losetup mount
}

install_packages() {
    [ ${#packages[@]} -gt 0 ] || return 0
    has apt-get || fail "apt-get not found; install the equivalents of these Debian packages: ${packages[*]}"
    say "installing ${packages[*]}"
    local log
    log=$(mktemp)
    if ! { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        fail "apt-get cannot install the packages; its output is above"
    fi
    rm -f "$log"
}

check_rust() {
    local advice="get Rust $RUST_MIN or newer with rustup, see https://rustup.rs" found
    { has cargo && has rustc; } || fail "cargo or rustc not found; $advice"
    found=$(rustc --version | cut -d ' ' -f 2) || fail "rustc does not run; $advice"
    printf '%s\n' "$RUST_MIN" "$found" | sort -CV || fail "rustc $found is too old; $advice"
}

# need_rust_component SUBCOMMAND COMPONENT
need_rust_component() {
    ! cargo "$1" --version >/dev/null 2>&1 || return 0
    rustup component add "$2" >/dev/null 2>&1 || fail "cargo $1 not found; install the Rust component $2"
    say "added the Rust component $2"
}

# Optional: with the sources of Rust's standard library, libeunomia.so is a quarter smaller.
add_std_source() {
    local source
    source=$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock
    { has "$source" || ! has rustup; } && return
    if rustup component add rust-src >/dev/null 2>&1; then
        say "added the Rust component rust-src"
    else
        say "rustup cannot add the component rust-src; without it libeunomia.so is a quarter larger"
    fi
}

# Installs the tools that check and package the Python binding, in the versions of its list.
make_venv() {
    local list=bindings/python/requirements-dev.txt venv=target/venv log
    cmp -s "$list" "$venv/installed.txt" && return
    log=$(mktemp)
    if ! { python3 -m venv --clear "$venv" && "$venv/bin/pip" install -r "$list"; } >"$log" 2>&1; then
        cat "$log" >&2
        fail "pip cannot install the packages of $list; its output is above"
    fi
    rm -f "$log"
    cp "$list" "$venv/installed.txt"
    say "created $venv with the packages of $list"
}

# mount_once TYPE DIRECTORY
mount_once() {
    mountpoint -q "$2" && return
    mount -t "$1" "$1" "$2" || fail "cannot mount $1 on $2; tracepoint programs and pinned maps need it"
    say "mounted $1 on $2"
}

[ "$(id -u)" = 0 ] || fail "run as root; loading eBPF programs, installing packages and mounting require it"
export DEBIAN_FRONTEND=noninteractive

check_rust
add_std_source
need_base
for work in "$@"; do
    case $work in
    wasm | python | go | test | fuzz | bench | lint | vm | deb | container | release) "need_$work" ;;
    *) fail "unknown word \"$work\"; usage: tools/setup.sh [wasm|python|go|test|fuzz|bench|lint|vm|deb|container|release]..." ;;
    esac
done
install_packages
[ -z "$needs_venv" ] || make_venv

mount_once tracefs /sys/kernel/tracing
mount_once bpf /sys/fs/bpf
