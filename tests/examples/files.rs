//! Examples for files, mounts and disks.

use std::fs::{self, File};
use std::path::Path;
use std::process::{self, Command};

use serde_json::json;

use super::{Example, output};

#[test]
fn opensnoop_can_report_only_failed_opens_of_one_process() {
    let pid = process::id();
    let Some(mut example) = Example::attach("opensnoop", &["--pid", &pid.to_string(), "--failed"]) else {
        return;
    };
    let missing = format!("/tmp/eunomia-opensnoop-{pid}");
    File::open("/proc/self/stat").unwrap();
    File::open(&missing).unwrap_err();

    loop {
        let event = example.next();
        assert_eq!(event["pid"], pid);
        assert!(event["ret"].as_i64().unwrap() < 0, "{event}");
        if event["fname"] == missing {
            assert_eq!(event["ret"], -2);
            break;
        }
    }
}

#[test]
#[ignore = "needs kprobes: run by make vm"]
fn vm_kprobe_link_reports_removals() {
    reports_removals("kprobe-link");
}

#[test]
#[ignore = "needs fentry: run by make vm"]
fn vm_fentry_link_reports_removals() {
    reports_removals("fentry-link");
}

fn reports_removals(name: &str) {
    let Some(mut example) = Example::attach(name, &[]) else { return };
    let pid = process::id();
    let path = format!("/tmp/eunomia-{name}-{pid}");
    File::create(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(&path).unwrap_err();

    for result in [0, -2] {
        example.wait_for(json!({"pid": pid, "returned": false, "filename": path}));
        example.wait_for(json!({"pid": pid, "returned": true, "ret": result, "filename": ""}));
    }
}

#[test]
fn mountsnoop_reports_mount_and_umount_with_their_results() {
    let Some(mut example) = Example::attach("mountsnoop", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let dest = folder.path().to_str().unwrap();
    let script = format!("mount -t tmpfs -o size=64k eunomia {dest} && umount {dest}; umount {dest}");
    // The command runs in a new mount namespace, whose number differs from this one's.
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .stderr(process::Stdio::null())
        .status()
        .unwrap();

    let mount =
        json!({"op": "MOUNT", "fs": "tmpfs", "src": "eunomia", "dest": dest, "data": "size=64k", "ret": 0});
    let event = example.wait_for(mount);
    assert_eq!(event["comm"], "mount");
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_ne!(own, Path::new(&format!("mnt:[{}]", event["mnt_ns"])));
    example.wait_for(json!({"op": "UMOUNT", "dest": dest, "src": "", "ret": 0, "mnt_ns": event["mnt_ns"]}));
}

#[test]
fn biolatency_counts_requests_per_disk() {
    let Some(mut example) = Example::attach("biolatency", &["--per-disk"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let backing = folder.path().join("disk");
    File::create(&backing).unwrap().set_len(1 << 20).unwrap();
    let disk = LoopDevice::of(&backing);
    output("dd", &["if=/dev/zero", &format!("of={}", disk.0), "bs=4096", "count=8", "oflag=direct"]);

    let name = disk.0.strip_prefix("/dev/").unwrap();
    let mut requests = 0;
    while requests < 8 {
        let entry = example.wait_for(json!({"value": {"disk": name}}));
        let slots = entry["value"]["slots"].as_array().unwrap();
        requests = slots.iter().map(|count| count.as_u64().unwrap()).sum();
    }
}

/// A loop device for a file; removed on drop.
struct LoopDevice(String);

impl LoopDevice {
    fn of(file: &Path) -> LoopDevice {
        LoopDevice(output("losetup", &["--find", "--show", file.to_str().unwrap()]))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        Command::new("losetup").args(["--detach", &self.0]).status().unwrap();
    }
}

#[test]
#[ignore = "needs fentry and the module md: run by make vm"]
fn vm_mdflush_reports_flushes_of_software_raid() {
    let array = Array::of_ram();
    // Modules have BTF since Linux 5.11.
    if !fs::exists("/sys/kernel/btf/md_mod").unwrap() {
        return mdflush_names_the_missing_symbol();
    }
    let Some(mut example) = Example::attach("mdflush", &[]) else { return };
    File::options().write(true).open(format!("/dev/{}", array.0)).unwrap().sync_all().unwrap();

    let comm = fs::read_to_string("/proc/thread-self/comm").unwrap();
    example.wait_for(json!({"pid": process::id(), "comm": comm.trim_end(), "disk": array.0}));
}

#[test]
fn mdflush_names_the_symbol_that_a_kernel_without_raid_lacks() {
    if !fs::exists("/sys/module/md_mod").unwrap() {
        mdflush_names_the_missing_symbol();
    }
}

fn mdflush_names_the_missing_symbol() {
    let Some(example) = Example::open("mdflush", &[]) else { return };
    let error = example.vm.attach().unwrap_err();
    let text = "program \"handle_flush\" (fentry/md_flush_request): this kernel has no target for fentry/md_flush_request";
    assert_eq!(error.to_string(), text);
}

/// A RAID 1 of one RAM disk, set up through sysfs (Documentation/admin-guide/md.rst) because mdadm may be missing.
struct Array(&'static str);

impl Array {
    fn of_ram() -> Array {
        output("modprobe", &["raid1"]);
        output("modprobe", &["brd", "rd_nr=1", "rd_size=4096"]);
        let array = Array("md_eunomia");
        fs::write("/sys/module/md_mod/parameters/new_array", array.0).unwrap();
        let ram = fs::read_to_string("/sys/block/ram0/dev").unwrap();
        array.set("metadata_version", "none");
        array.set("level", "raid1");
        array.set("raid_disks", "1");
        array.set("new_dev", ram.trim_end());
        array.set("dev-ram0/size", "4096");
        array.set("dev-ram0/slot", "0");
        array.set("component_size", "4096");
        array.set("array_state", "active");
        array
    }

    fn set(&self, name: &str, value: &str) {
        let path = format!("/sys/block/{}/md/{name}", self.0);
        fs::write(&path, value).unwrap_or_else(|e| panic!("{path} = {value}: {e}"));
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        self.set("array_state", "clear");
    }
}
