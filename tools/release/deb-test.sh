#!/usr/bin/env bash
# deb-test.sh DIRECTORY: installs the Debian packages of this version from DIRECTORY in a fresh Debian 12, which debootstrap
# makes in target/debian, and uses them there: compiles, inspects and runs a package, links a host, imports the Python module.
# If the directory is a release (it has an install.sh), its checksums and signatures are checked and install.sh runs there too.
set -euo pipefail
cd "$(dirname "$0")/../.."

files=$(realpath "$1")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
base=$PWD/target/debian.tar root=$PWD/target/debian
# The mirror that this machine uses.
# shellcheck disable=SC2016  # apt-get expands it
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
    sort -u | head -n 1)
[ -n "$mirror" ] || { echo "no Debian mirror found; run apt-get update first" >&2 && exit 1; }

# A mount namespace of its own: whatever is mounted below disappears with this process.
if [ "${UNSHARED:-}" != yes ]; then
    UNSHARED=yes exec unshare --mount "$0" "$files"
fi

rm -rf --one-file-system "$root"
if [ ! -e "$base" ]; then
    debootstrap --variant=minbase bookworm "$root" "$mirror" >"$root.log" 2>&1 || { tail "$root.log" && exit 1; }
    tar -C "$root" -cf "$base" .
else
    mkdir "$root" && tar -C "$root" -xf "$base"
fi
trap 'umount -R "$root/proc" "$root/sys" "$root/dev"; rm -rf --one-file-system "$root"' EXIT
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
cp /etc/resolv.conf "$root/etc/resolv.conf"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
# quiet COMMAND...: prints the output only if the command fails.
quiet() { "$@" >"$root.log" 2>&1 || { cat "$root.log" && exit 1; }; }

mkdir "$root/packages" "$root/src"
cp "$files"/*_"$version"_*.deb "$root/packages"
cp examples/template/hello.bpf.c examples/template/hello.h examples/bpf/bootstrap/bootstrap.bpf.c examples/bpf/bootstrap/bootstrap.h \
    examples/c/first.c "$root/src"

echo "installing the packages"
quiet inside apt-get update
quiet inside sh -c 'apt-get install -y --no-install-recommends /packages/*.deb gcc pkg-config'

cat >"$root/src/test.sh" <<'END'
set -eu
cd /src
ecc --version
ecli --version
ecc hello.bpf.c hello.h -o hello
ecc bootstrap.bpf.c bootstrap.h -o bootstrap
ecli inspect hello/package.json >inspected.txt
grep sched_process_exec inspected.txt
# Starts programs, which the packages report, until it is killed.
(while :; do /bin/true; done) &
trap "kill $!" EXIT
timeout 60 ecli run --count 1 hello/package.json
# shellcheck disable=SC2046
cc first.c -o first $(pkg-config --cflags --libs eunomia)
cc -static first.c -o first-static $(pkg-config --static --cflags --libs eunomia)
timeout 60 ./first bootstrap/package.json
timeout 60 ./first-static bootstrap/package.json
timeout 60 python3 - <<'PYTHON'
import eunomia

with eunomia.VM() as vm:
    vm.open_file("hello/package.json")
    vm.attach()
    print(next(iter(vm.events())))
PYTHON
END
echo "using them"
inside sh /src/test.sh

if [ -e "$files/install.sh" ]; then
    echo "checking the release and running its install.sh"
    (cd "$files" && sha256sum --quiet -c SHA256SUMS)
    cp "$files"/*.minisig "$files"/ecli-"$version"-* "$files/install.sh" "$root/src"
    # No web server is needed, because curl can read a directory.
    quiet inside apt-get install -y --no-install-recommends curl minisign
    inside env EUNOMIA_URL=file:///src sh /src/install.sh
    inside /usr/local/bin/ecli --version
    rm "$root/usr/local/bin/ecli"
fi

echo "removing them"
inside systemd-analyze verify --man=no eunomia-agent.service eunomia-loader.service
inside id eunomia
quiet inside apt-get purge -y libeunomia0 ecc ecli eunomia-agent
left=$(inside sh -c 'find /usr -name "*eunomia*" -o -name ecc -o -name ecli')
[ -z "$left" ] || { echo "the packages left files: $left" >&2 && exit 1; }
echo "the Debian packages work"
