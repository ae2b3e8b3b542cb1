#!/usr/bin/env bash
# test.sh ECLI PACKAGE: runs the units of this directory under systemd, with ECLI as the installed ecli, and
# starts PACKAGE. systemd runs in its own namespaces, on an overlay of this machine's files that is discarded.
# Needs root, systemd and cgroup2.
set -euo pipefail
results=${RESULTS:-}
ecli=$(realpath "$1") package=$(realpath "$2") here=$(realpath "$(dirname "$0")")

if [ "${INSIDE:-}" != yes ]; then
    results=$(mktemp -d)
    trap 'rm -r "$results"' EXIT
    INSIDE=yes RESULTS=$results timeout 600 unshare --mount --pid --cgroup --uts --ipc --fork --kill-child \
        "$here/test.sh" "$ecli" "$package" >"$results/console" 2>&1 || true
    grep -qx passed "$results/output" || { cat "$results/console" "$results/output" && exit 1; }
    echo "the units work"
    exit
fi

mount --make-rprivate /
work=$results/layer
mkdir "$work"
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
root=$work/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tracefs tracefs "$root/sys/kernel/tracing"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root/mnt"
mount --bind "$results" "$root/mnt"

mkdir -p "$root/opt"
cp "$ecli" "$root/usr/bin/ecli"
cp "$package" "$root/opt/package.json"
units=$root/etc/systemd/system
mkdir -p "$units"
cp "$here"/*.service "$here"/*.socket "$units"
sed -i 's|@PREFIX@|/usr|' "$units"/eunomia-*.service
cp "$here/eunomia.sysusers" "$root/usr/lib/sysusers.d/eunomia.conf"
chroot "$root" systemd-sysusers eunomia.conf
cat >"$units/eunomia-test.service" <<'END'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/opt/test
StandardOutput=file:/mnt/output
StandardError=file:/mnt/output
ExecStopPost=/bin/systemctl --no-block exit 0
END
cat >"$root/opt/test" <<'END'
#!/bin/bash
set -eux
main() { systemctl show --property MainPID --value "eunomia-$1.service"; }
# has_event CURSOR: whether an event comes within a minute, while programs are started.
has_event() {
    for _ in $(seq 600); do
        /bin/true
        sleep 0.1
        [ -z "$(ecli client log 1 --cursor "$1")" ] || return 0
    done
    return 1
}
systemctl start eunomia-loader.socket eunomia-agent.socket eunomia-agent.service
[ "$(stat -c '%a %U %G' /run/eunomia/agent.sock)" = "660 root eunomia" ]
[ "$(stat -c '%a %U' /run/eunomia/loader.sock)" = "600 eunomia" ]
ecli client start --json /opt/package.json
has_event 0
loader=$(main loader)
grep -q 'CapEff:.0000000000000000' "/proc/$(main agent)/status"
grep -q 'CapEff:.000000c000001004' "/proc/$loader/status"
# The programs stay attached: the loader is the same.
systemctl restart eunomia-agent.service
[ "$(ecli client list)" = "1 bootstrap Running" ]
kill -9 "$(main agent)"
[ "$(ecli client list)" = "1 bootstrap Running" ]
has_event 0
[ "$loader" = "$(main loader)" ]
# The programs also stay attached without the loader, and the next loader takes them over.
pins=$(echo /sys/fs/bpf/eunomia/*/1/*)
[ -d "$pins" ]
kill -9 "$loader"
until two=$(ecli client start --json -n two /opt/package.json); do sleep 0.1; done
[ "$(ecli client list)" = "1 bootstrap Running
$two two Running" ]
[ "$loader" != "$(main loader)" ]
[ "$pins" = "$(echo /sys/fs/bpf/eunomia/*/1/*)" ]
systemctl stop eunomia-agent.socket eunomia-agent.service eunomia-loader.socket eunomia-loader.service
# Nothing stays attached.
[ -z "$(ls /sys/fs/bpf/eunomia)" ]
echo passed
END
chmod +x "$root/opt/test"
export container=other
exec chroot "$root" /lib/systemd/systemd --system --unit=eunomia-test.service --log-target=console --show-status=no </dev/null
