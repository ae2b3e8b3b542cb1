#!/usr/bin/env bash
# Prints the path of a Debian kernel image of the given version (5.10, 6.1, 6.12 or 7.2). Downloads the image and the few modules
# that tests need if they are missing. The package is unpacked and not installed; apt and dpkg of this machine are not changed.
set -euo pipefail

kernel=${1:?5.10, 6.1, 6.12 or 7.2}
case $kernel in
5.10) suite=bullseye ;;
6.1) suite=bookworm ;;
6.12) suite=trixie ;;
7.2) suite=sid ;;
*) echo "KERNEL=$kernel: expected 5.10, 6.1, 6.12 or 7.2" >&2 && exit 2 ;;
esac

cd "$(dirname "$0")/../.."
dir=$PWD/target/vm/$kernel
image=$dir/vmlinuz
modules=('*/drivers/md/md-mod.ko*' '*/drivers/md/raid1.ko*' '*/drivers/block/brd.ko*' '*/net/sched/sch_ingress.ko*'
    '*/net/sched/cls_bpf.ko*' '*/drivers/net/netkit.ko*' '*/drivers/block/loop.ko*'
    # For a disk (system.sh).
    '*/drivers/virtio/virtio*.ko*' '*/drivers/block/virtio_blk.ko*' '*/fs/ext4/ext4.ko*' '*/fs/jbd2/jbd2.ko*' '*/fs/mbcache.ko*'
    '*/lib/crc16.ko*' '*/crypto/crc32c*.ko*' '*/lib/libcrc32c.ko*')
if [ -e "$dir/btf" ] && [ "$(cat "$dir/modules.txt" 2>/dev/null)" = "${modules[*]}" ]; then
    echo "$image" && exit
fi

# The mirror that this machine uses.
# shellcheck disable=SC2016  # apt-get expands it
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
    sort -u | head -n 1)
if [ -z "$mirror" ]; then
    echo "no Debian mirror found; run apt-get update first" >&2 && exit 1
fi

apt=$dir/apt
rm -rf "$apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
own_state=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
    -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root)
apt-get "${own_state[@]}" -qq update >&2

# The image and the modules are one package in older suites, two in newer ones.
newest() {
    apt-cache "${own_state[@]}" pkgnames "$1-$kernel." |
        grep -E "^$1-${kernel//./\\.}\.[0-9]+[-+][0-9a-z.+~]+-amd64$" | sort -V | tail -n 1 || true
}
packages=("$(newest linux-binary)" "$(newest linux-modules)")
[ -n "${packages[0]}" ] || packages=("$(newest linux-image)")
if [ -z "${packages[0]}" ]; then
    echo "$suite has no image of Linux $kernel" >&2 && exit 1
fi

mkdir -p "$apt/files"
for package in "${packages[@]}"; do
    [ -n "$package" ] || continue
    (cd "$apt" && apt-get "${own_state[@]}" -qq download "$package" >&2)
    dpkg-deb --fsys-tarfile "$apt/$package"_*.deb |
        tar -x -C "$apt/files" --wildcards './boot/vmlinuz-*' '*/vmlinuz' "${modules[@]}" 2>/dev/null || true
done
find "$apt/files" -name '*.ko.xz' -exec xz -d {} +
mv "$(find "$apt/files" -name 'vmlinuz*' | head -n 1)" "$image"
rm -rf "$dir/modules"
# The modules are in lib or, in newer packages, in usr/lib.
mv "$(find "$apt/files" -path '*lib/modules')" "$dir/modules"
rm -r "$apt"
echo "${modules[*]}" >"$dir/modules.txt"

# The kernel's BTF, for packages that contain types: the image is a loader and, at the offset in its header
# (Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length), a compressed vmlinux and its size.
number() { od -An -j "$1" -N "$2" -t "u$2" "$image" | tr -d ' '; }
start=$((($(number 497 1) + 1) * 512 + $(number 584 4)))
size=$(($(number 588 4) - 4))
dd if="$image" of="$dir/payload" bs=1M iflag=skip_bytes,count_bytes skip=$start count=$size status=none
# Either compression is in use.
xz -dc <"$dir/payload" >"$dir/vmlinux" 2>/dev/null || zstd -dc <"$dir/payload" >"$dir/vmlinux"
objcopy --dump-section .BTF="$dir/btf" "$dir/vmlinux" /dev/null
rm "$dir/payload" "$dir/vmlinux"
echo "$image"
