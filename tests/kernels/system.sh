#!/usr/bin/env bash
# system.sh DEBS PACKAGE: boots Debian 12 with systemd in QEMU, installs the Debian packages of the server from the directory DEBS
# there, and runs PACKAGE: units, socket activation, an upgrade while the task runs, and a crash of the machine shortly after a task was
# started. The disk is kept between the two boots. debootstrap makes the base system once, in target/vm/system.tar.
set -euo pipefail
debs=$(realpath "$1") package=$(realpath "$2")
cd "$(dirname "$0")/../.."

if [ "${UNSHARED:-}" != yes ]; then
    # Whatever is mounted for debootstrap disappears with this process.
    UNSHARED=yes exec unshare --mount "$0" "$debs" "$package"
fi

kernel=6.1
image=$(tests/kernels/kernel.sh $kernel)
modules=$(dirname "$image")/modules
folder=target/vm/system base=target/vm/system.tar
mkdir -p target/vm
if [ ! -e "$base" ]; then
    # The mirror that this machine uses.
    # shellcheck disable=SC2016  # apt-get expands it
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
        sort -u | head -n 1)
    [ -n "$mirror" ] || { echo "no Debian mirror found; run apt-get update first" >&2 && exit 1; }
    rm -rf --one-file-system "$folder"
    debootstrap --variant=minbase --include=systemd-sysv,dbus,kmod bookworm "$folder" "$mirror" >"$folder.log" 2>&1 ||
        { tail "$folder.log" && exit 1; }
    tar -C "$folder" -cf "$base.new" .
    mv "$base.new" "$base"
    rm -rf --one-file-system "$folder"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"
tar -C "$root" -xf "$base"
mkdir "$root/opt/now" "$root/opt/next"
cp "$debs"/{ecli,eunomia-agent}_*.deb "$root/opt/now"
# The same packages as the next version.
for deb in "$root"/opt/now/*.deb; do
    dpkg-deb -R "$deb" "$work/deb"
    sed -i "s/^Version: .*/&+next/; s/ecli (= [^)]*/&+next/" "$work/deb/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$work/deb" "$root/opt/next/$(basename "$deb")" >/dev/null
    rm -r "$work/deb"
done
cp "$package" "$root/opt/package.json"
cp tests/kernels/system-test "$root/opt/test"
cat >"$root/etc/systemd/system/eunomia-test.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/opt/test
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
ExecStopPost=/bin/systemctl --no-block --force poweroff
[Install]
WantedBy=default.target
END
ln -s ../eunomia-test.service "$root/etc/systemd/system/multi-user.target.wants/eunomia-test.service"
echo system >"$root/etc/hostname"
disk=$work/disk
mke2fs -q -t ext4 -d "$root" "$disk" 1G
rm -rf "$root"

# The first process of the virtual machine mounts the disk and starts systemd.
initrd=$work/initrd
mkdir -p "$initrd"/{bin,dev,proc,sys,disk,lib}
cp "$(command -v busybox)" "$initrd/bin/busybox"
cp -r "$modules" "$initrd/lib/modules"
cat >"$initrd/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
depmod
for module in virtio_pci virtio_blk crc32c_generic ext4; do modprobe $module; done
mount -t ext4 /dev/vda /disk || poweroff -f
for folder in dev proc sys; do mount --move /$folder /disk/$folder; done
exec switch_root /disk /sbin/init
END
chmod +x "$initrd/init"
(cd "$initrd" && find . | cpio --quiet -o -H newc) >"$work/initrd.cpio"

# boot: boots until the machine powers off or restarts.
boot() {
    timeout "${VM_TIMEOUT:-600}" qemu-system-x86_64 -accel tcg -cpu max -m 1024 -smp 2 -nodefaults -no-reboot \
        -display none -serial stdio -kernel "$image" -initrd "$work/initrd.cpio" \
        -drive "file=$disk,format=raw,if=virtio" -append "console=ttyS0 panic=-1 quiet" </dev/null | sed -u 's/\r$//'
}
console=$work/console
for number in 1 2; do
    boot | tee "$console"
    grep -qx "boot $number passed" "$console" || { echo "boot $number failed" >&2 && exit 1; }
done
