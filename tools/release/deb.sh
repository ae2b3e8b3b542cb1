#!/usr/bin/env bash
# deb.sh ROOT OUT: makes Debian packages from what `make install DESTDIR=ROOT PREFIX=/usr LIBDIR=lib/TRIPLET` installed, in
# the directory OUT: libeunomia0, libeunomia-dev, ecc, ecli, eunomia-agent and python3-eunomia.
set -euo pipefail

root=$(realpath "$1") out=$(realpath "$2")
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
minor=${version%.*}
# The next minor version may break the interface (docs/ABI.md).
next=${minor%.*}.$((${minor##*.} + 1))
architecture=$(dpkg --print-architecture)
triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
maintainer="The libeunomia maintainers <maintainers@eunomia-bpf.invalid>"
# The same sources give the same packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debian"
# dpkg-shlibdeps expects a source package around it, and knows our own library by this file.
echo "Source: libeunomia" >"$work/debian/control"

# take PACKAGE PATH...: puts files below ROOT into a package.
take() {
    local tree=$work/$1
    shift
    mkdir -p "$tree"
    (cd "$root" && cp -a --parents "$@" "$tree")
}

# libraries_of PACKAGE FILE: the dependencies of an executable or shared library.
libraries_of() {
    (cd "$work" && dpkg-shlibdeps -O -e"$1/$2" 2>/dev/null) | sed 's/^shlibs:Depends=//'
}

documents() {
    local tree=$work/$1 folder=$work/$1/usr/share/doc/$1
    mkdir -p "$folder"
    {
        echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
        echo "Upstream-Name: libeunomia"
        echo
        echo "Files: *"
        echo "Copyright: $(sed -n 's/^Copyright (c) //p' LICENSE)"
        echo "License: Expat"
        # An empty line is a dot there.
        sed -n '/^Permission is/,$p' LICENSE | sed 's/^$/./; s/^/ /'
        [ "$1" = python3-eunomia ] || printf '%s\n' "Comment:" " Libraries under other licences are linked in; NOTICE lists them with their texts."
    } >"$folder/copyright"
    printf 'libeunomia (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md in the sources.\n\n -- %s  %s\n' \
        "$version" "$maintainer" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$folder/changelog.gz"
    [ "$1" = python3-eunomia ] || gzip -9n <NOTICE >"$folder/NOTICE.gz"
    find "$tree" -path '*/man/man*' -type f -exec gzip -9nf {} +
}

# package NAME SECTION ARCHITECTURE DEPENDS SUMMARY: reads the rest of the description; builds the package.
package() {
    local tree=$work/$1
    documents "$1"
    mkdir -p "$tree/DEBIAN"
    {
        printf '%s\n' "Package: $1" "Source: libeunomia" "Version: $version" "Architecture: $3" "Maintainer: $maintainer" \
            "Section: $2" "Priority: optional" "Homepage: https://github.com/eunomia-bpf/libeunomia" \
            "Installed-Size: $(du -sk --apparent-size --exclude DEBIAN "$tree" | cut -f 1)"
        [ -z "$4" ] || echo "Depends: $4"
        [ ! -e "$tree.fields" ] || cat "$tree.fields"
        echo "Description: $5"
        sed 's/^/ /'
    } >"$tree/DEBIAN/control"
    (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    chmod -R u=rwX,go=rX "$tree"
    find "$tree" -name '*.so.*' -type f -exec chmod 644 {} +
    rm -f "$out/$1"_*.deb
    dpkg-deb --root-owner-group --build "$tree" "$out" >/dev/null
    echo "$out/$1_${version}_$3.deb"
}

libraries=usr/lib/$triplet

# Debian would name it libeunomia0.1. The name does not contain the version, so a newer version replaces the package.
# Programs that are linked with it depend on the minor version, see shlibs.
take libeunomia0 "$libraries/libeunomia.so.$minor" "$libraries/libeunomia.so.$version"
mkdir -p "$work/libeunomia0/DEBIAN"
echo "libeunomia $minor libeunomia0 (>= $version), libeunomia0 (<< $next~)" >"$work/libeunomia0/DEBIAN/shlibs"
echo "activate-noawait ldconfig" >"$work/libeunomia0/DEBIAN/triggers"
echo "Multi-Arch: same" >"$work/libeunomia0.fields"
package libeunomia0 libs "$architecture" "$(libraries_of libeunomia0 "$libraries/libeunomia.so.$version")" \
    "library that runs eBPF packages inside a program" <<'END'
libeunomia loads, configures and attaches a compiled eBPF program and passes
its events to the host program as JSON, text or raw records. It needs no
compiler and no kernel headers at run time.
END

take libeunomia-dev usr/include/eunomia.h usr/include/eunomia.hpp "$libraries/libeunomia.so" "$libraries/libeunomia.a" \
    "$libraries/pkgconfig" "$libraries/cmake" usr/share/man/man3
echo "Multi-Arch: same" >"$work/libeunomia-dev.fields"
package libeunomia-dev libdevel "$architecture" "libeunomia0 (= $version), libc6-dev" \
    "library that runs eBPF packages inside a program (development files)" <<'END'
This package has the headers for C and C++, the static library, the manual
page and the files for pkg-config and CMake.
END

take ecc usr/bin/ecc
echo "Recommends: lld, wasi-libc, libclang-rt-dev-wasm32" >"$work/ecc.fields"
package ecc devel "$architecture" "$(libraries_of ecc usr/bin/ecc), clang" "compiler of eBPF programs to libeunomia packages" <<'END'
ecc compiles an eBPF program in C to one JSON file, which libeunomia and ecli
load on any kernel that has BTF. The recommended packages are for guests in
WebAssembly.
END

take ecli usr/bin/ecli usr/share/man/man1 usr/share/bash-completion usr/share/zsh usr/share/fish
mv "$work/ecli/usr/share/zsh/site-functions" "$work/ecli/usr/share/zsh/vendor-completions"
package ecli utils "$architecture" "$(libraries_of ecli usr/bin/ecli)" "command line that runs eBPF packages" <<'END'
ecli runs libeunomia packages and WebAssembly guests from files, URLs and
registries, and prints their events. It also inspects, verifies and signs
them.
END

take eunomia-agent usr/bin/ecli-server usr/lib/systemd usr/lib/sysusers.d
mkdir -p "$work/eunomia-agent/DEBIAN"
cat >"$work/eunomia-agent/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
systemd-sysusers eunomia.conf
for socket in eunomia-loader.socket eunomia-agent.socket; do
    deb-systemd-helper enable "$socket" >/dev/null
done
deb-systemd-helper enable eunomia-agent.service >/dev/null
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl start eunomia-loader.socket eunomia-agent.socket
    # The programs of tasks stay attached, because the loader keeps running.
    systemctl restart eunomia-agent.service
fi
END
cat >"$work/eunomia-agent/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop eunomia-agent.socket eunomia-agent.service eunomia-loader.socket eunomia-loader.service
fi
END
cat >"$work/eunomia-agent/DEBIAN/postrm" <<'END'
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/eunomia
    ! command -v deb-systemd-helper >/dev/null ||
        deb-systemd-helper purge eunomia-agent.service eunomia-agent.socket eunomia-loader.socket >/dev/null
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload
END
chmod 755 "$work/eunomia-agent/DEBIAN/"p*
package eunomia-agent admin "$architecture" "ecli (= $version), systemd, init-system-helpers" "server that runs eBPF packages for others" <<'END'
The server runs libeunomia packages for others, who send requests over HTTP
through a unix socket. Its loader is a service of its own, so programs stay
attached while the server is restarted or upgraded.
END

python=$work/python3-eunomia/usr/lib/python3/dist-packages
mkdir -p "$python/eunomia-$version.dist-info"
cp -r bindings/python/src/eunomia "$python/"
rm -rf "$python/eunomia/__pycache__" "$python/eunomia/libeunomia.so"
printf '%s\n' "Metadata-Version: 2.1" "Name: eunomia" "Version: $version" \
    "Summary: $(sed -n 's/^description = "\(.*\)"/\1/p' bindings/python/pyproject.toml)" "License: MIT" "Requires-Python: >=3.9" \
    >"$python/eunomia-$version.dist-info/METADATA"
echo "dpkg" >"$python/eunomia-$version.dist-info/INSTALLER"
echo "Suggests: python3-numpy" >"$work/python3-eunomia.fields"
mkdir -p "$work/python3-eunomia/DEBIAN"
# Creates the byte code, like other packages of Python modules.
# shellcheck disable=SC2016  # for the installed script
printf '#!/bin/sh\nset -e\n[ "$1" != configure ] || ! command -v py3compile >/dev/null || py3compile -p python3-eunomia\n' \
    >"$work/python3-eunomia/DEBIAN/postinst"
printf '#!/bin/sh\nset -e\n! command -v py3clean >/dev/null || py3clean -p python3-eunomia\n' \
    >"$work/python3-eunomia/DEBIAN/prerm"
chmod 755 "$work/python3-eunomia/DEBIAN/"p*
package python3-eunomia python all "python3 (>= 3.9), libeunomia0 (>= $version), libeunomia0 (<< $next~)" \
    "library that runs eBPF packages inside a program (Python binding)" <<'END'
This package has the module eunomia, which loads eBPF packages with
libeunomia and passes their events to Python functions.
END
