//! Tests which features the running kernel supports: ways to attach, types of maps, kinds of events. A feature works if its
//! program loads, attaches and runs; otherwise the error of the library is recorded. `make vm` combines the results of several
//! kernels in docs/kernels.md.
#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod device;
mod triggers;

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, iter};

use eunomia::{Error, Flow, Format, Kind, Options, Status, Vm};
use serde_json::json;
use sha2::{Digest, Sha256};
use triggers::Trigger;

/// The package of all program types, which was compiled once for all kernels, and its digest.
const FEATURES: &[u8] = include_bytes!("features.json");
const DIGEST: &str = include_str!("features.sha256");
const MAPS: &str = include_str!("maps.txt");

/// A program of features.bpf.c: its name, the first kernel with the feature, its target, and what triggers it.
struct Feature {
    name: &'static str,
    since: (u32, u32),
    target: Option<fn() -> serde_json::Value>,
    trigger: Trigger,
}

/// Programs that no host can attach; the library returns an error.
const NEVER: (u32, u32) = (u32::MAX, 0);

fn features() -> Vec<Feature> {
    let libc = || json!({"path": triggers::libc_path(), "func": "getpgid"});
    let probe = || json!({"attach": format!("usdt/{}:eunomia:beat", own_path()), "pid": std::process::id()});
    let here = || json!({"interface": "lo"});
    let group = || json!({"cgroup": triggers::cgroup()});
    let often = || json!({"perf_event": {"type": "software", "config": "cpu-clock", "period": 100_000}});
    let device = || json!({"interface": device::name()});
    let feature = |name, since, trigger| Feature { name, since, target: None, trigger };
    let at = |name, since, target, trigger| Feature { name, since, target: Some(target), trigger };
    vec![
        feature("kprobe", (4, 1), Trigger::Read),
        feature("kretprobe", (4, 1), Trigger::Read),
        feature("kprobe_multi", (6, 12), Trigger::Read), // needs CONFIG_FPROBE, which Debian enables since then
        feature("kprobe_session", (6, 12), Trigger::Read), // 6.10 with CONFIG_FPROBE
        feature("tracepoint", (4, 7), Trigger::Getpgid),
        feature("raw_tp", (4, 17), Trigger::Getpgid),
        feature("tp_btf", (5, 5), Trigger::Getpgid),
        feature("fentry", (5, 5), Trigger::Read),
        feature("fexit", (5, 5), Trigger::Read),
        feature("fmod_ret", (5, 7), Trigger::Stat),
        feature("lsm", (5, 7), Trigger::Stat),
        at("uprobe", (4, 1), libc, Trigger::Getpgid),
        at("uretprobe", (4, 1), libc, Trigger::Getpgid),
        feature("uprobe_multi", (6, 6), Trigger::Getpgid),
        at("usdt", (4, 1), probe, Trigger::Beat),
        at("perf_event", (4, 9), often, Trigger::Busy),
        at("xdp", (4, 8), here, Trigger::Datagram),
        at("tc", (4, 1), here, Trigger::Datagram),
        at("tcx", (6, 6), here, Trigger::Datagram),
        at("netkit", (6, 7), device, Trigger::Device),
        at("cgroup_ingress", (4, 10), group, Trigger::Datagram),
        at("cgroup_egress", (4, 10), group, Trigger::Datagram),
        at("cgroup_sock_create", (4, 10), group, Trigger::Datagram),
        at("cgroup_sock_release", (5, 9), group, Trigger::Datagram),
        at("cgroup_post_bind", (4, 17), group, Trigger::Datagram),
        at("cgroup_bind", (4, 17), group, Trigger::Datagram),
        at("cgroup_connect", (4, 17), group, Trigger::Connect),
        at("cgroup_connect_unix", (6, 7), group, Trigger::Unix),
        at("cgroup_sendmsg", (4, 18), group, Trigger::Datagram),
        at("cgroup_recvmsg", (5, 2), group, Trigger::Datagram),
        at("cgroup_getpeername", (5, 8), group, Trigger::Connect),
        at("cgroup_getsockname", (5, 8), group, Trigger::Connect),
        at("cgroup_getsockopt", (5, 3), group, Trigger::Option),
        at("cgroup_setsockopt", (5, 3), group, Trigger::Datagram),
        at("cgroup_sysctl", (5, 2), group, Trigger::Sysctl),
        at("cgroup_device", (4, 15), group, Trigger::Null),
        at("sockops", (4, 13), group, Trigger::Connect),
        feature("sk_lookup", (5, 9), Trigger::Connect),
        feature("iter", (5, 8), Trigger::Iterate),
        feature("sk_msg", NEVER, Trigger::Connect),
        feature("sk_skb", NEVER, Trigger::Connect),
        feature("socket_filter", NEVER, Trigger::Datagram),
        feature("freplace", NEVER, Trigger::Getpgid),
    ]
}

fn own_path() -> String {
    std::env::current_exe().expect("a test knows where it is").display().to_string()
}

/// The results, in the order in which they are printed: `matrix NAME: works` or `matrix NAME: REASON`.
#[test]
fn vm_every_feature_works_or_reports_why_not() {
    needs_root!();
    assert_eq!(digest(FEATURES), DIGEST.trim(), "tests/matrix/build.sh features makes both anew");
    let mut missed = Vec::new();
    let mut tell = |name: &str, since: (u32, u32), answer: Result<(), String>| {
        println!("matrix {name}: {}", answer.as_ref().err().map_or("works", |reason| reason.as_str()));
        let unnamed = answer.as_ref().is_err_and(|reason| reason.ends_with("which is not supported"));
        assert_eq!(since == NEVER, unnamed, "{name}: {answer:?}");
        let must = may_be_relied_on() && release() >= since;
        if answer.is_err() && must {
            missed.push(name.to_owned());
        }
    };
    println!("matrix kernel: {}.{}", release().0, release().1);
    for feature in features() {
        tell(feature.name, feature.since, runs(FEATURES, &feature));
    }
    tell("syscall", (5, 14), loads(FEATURES, Some("syscall")).map(drop));
    tell("struct_ops", (5, 6), congestion_control());
    tell("ring buffer", (5, 8), delivers("ringbuf"));
    tell("perf buffer", (4, 4), delivers("perfbuf"));
    tell("global variables", (5, 2), variables());
    tell("types from the package, none in the kernel", (5, 2), brings_types());
    for (kind, shape) in MAPS.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))) {
        tell(&format!("map {kind}"), since_of_map(kind), holds(kind, shape));
    }
    assert!(missed.is_empty(), "this kernel has them, yet they do not work: {missed:?}");
}

/// Each example of this repository, as `make packages` made it: attached, or the reason. tests/examples print which of
/// them deliver events.
#[test]
fn vm_every_example_attaches_or_reports_why_not() {
    needs_root!();
    let folder = support::root().join("target/packages");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("make packages comes first")
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| folder.join(name).join("package.json").exists())
        .collect();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    let mut missed = Vec::new();
    for name in &names {
        let package = fs::read(folder.join(name).join("package.json")).unwrap();
        let answer = loads(&package, None).and_then(|vm| vm.attach().map_err(reason));
        println!(
            "matrix example {name}: {}",
            answer.as_ref().err().map_or("attaches", |reason| reason.as_str())
        );
        // The example mdflush needs a module, which its own test loads.
        if answer.is_err() && may_be_relied_on() && name != "mdflush" {
            missed.push(name);
        }
    }
    assert!(missed.is_empty(), "this kernel has what they need: {missed:?}");
}

fn since_of_map(kind: &str) -> (u32, u32) {
    match kind {
        "ringbuf" => (5, 8),
        "inode_storage" => (5, 10),
        "task_storage" => (5, 11),
        "bloom_filter" => (5, 16),
        "user_ringbuf" => (6, 1),
        "cgrp_storage" => (6, 2),
        "arena" => (6, 9),
        _ => (5, 2),
    }
}

/// Only the kernels of the virtual machines are known to be built with everything.
fn may_be_relied_on() -> bool {
    Path::new("/vm").exists()
}

fn release() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The package that tests/matrix/build.sh made.
fn package(name: &str) -> Vec<u8> {
    let path: PathBuf = support::root().join("target/matrix").join(name).join("package.json");
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run tests/matrix/build.sh first", path.display()))
}

/// The error without the name of the program, which is in the row already.
fn reason(error: Error) -> String {
    assert!(!error.message().is_empty() && error.status() != Status::Inval, "{error:?}");
    let message = error.message().split_once("): ").map_or(error.message(), |(_, reason)| reason);
    message.trim_start_matches("map \"map\": ").replace('\n', " ")
}

/// Loads a package, with one of its programs or all.
fn loads(package: &[u8], only: Option<&str>) -> Result<Vm, String> {
    let vm = Vm::new(Options::new()).unwrap();
    vm.open(package, Kind::Json).map_err(reason)?;
    if let Some(name) = only {
        vm.prog_set_autoload(name, true).unwrap();
    }
    vm.load().map_err(reason)?;
    Ok(vm)
}

fn hits(vm: &Vm) -> u64 {
    vm.var_get_json("hits").unwrap().parse().unwrap()
}

/// Loads and attaches a program of a package, triggers it, and checks that it ran.
fn runs(package: &[u8], feature: &Feature) -> Result<(), String> {
    let vm = loads(package, Some(feature.name))?;
    let _device = matches!(feature.trigger, Trigger::Device).then(device::Device::new);
    if let Some(target) = feature.target {
        vm.prog_set_target_json(feature.name, &target().to_string()).map_err(reason)?;
    }
    vm.attach().map_err(reason)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while hits(&vm) == 0 {
        assert!(Instant::now() < deadline, "{}: attached, but it never ran", feature.name);
        feature.trigger.pull(&vm);
    }
    // A program that runs in a process has read the id of that process from a member whose offset differs between
    // kernels.
    let tgid: u32 = vm.var_get_json("tgid").unwrap().parse().unwrap();
    let of_tasks = ["tracepoint", "uprobe", "uretprobe", "usdt"].contains(&feature.name);
    assert!(!of_tasks || tgid == std::process::id(), "{}: of process {tgid}", feature.name);
    Ok(())
}

/// Runs a program that reads kernel structs while the kernel's BTF is hidden: the package contains the types.
fn brings_types() -> Result<(), String> {
    let package = package("types");
    let tracepoint = features().into_iter().find(|feature| feature.name == "tracepoint").unwrap();
    let work = || {
        hide(c"/sys/kernel/btf");
        assert!(!Path::new("/sys/kernel/btf/vmlinux").exists());
        runs(&package, &tracepoint)
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Mounts an empty directory over a directory, for this thread.
fn hide(folder: &CStr) {
    let all_below = libc::MS_REC | libc::MS_PRIVATE;
    let (none, no_type, no_data) = (c"none".as_ptr(), std::ptr::null(), std::ptr::null());
    // SAFETY: the strings are NUL-terminated, and the kernel allows the null pointers.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
        assert_eq!(libc::mount(none, c"/".as_ptr(), no_type, all_below, no_data), 0);
        assert_eq!(libc::mount(none, folder.as_ptr(), c"tmpfs".as_ptr(), 0, no_data), 0);
    }
}

/// Creates a map; a map with plain keys and values is also written and read.
fn holds(kind: &str, shape: &str) -> Result<(), String> {
    let vm = loads(&package(&format!("map-{kind}")), None)?;
    if ["", "TRIE"].contains(&shape) {
        // The first half of a trie's key is the length of the prefix.
        let (key, value) = (if shape.is_empty() { "1" } else { "32" }, r#"{"first":7,"second":8}"#);
        vm.map_set_json("map", key, value, 0).map_err(reason)?;
        let read = vm.map_get_json("map", key).map_err(reason)?;
        assert!(read.contains(value), "{kind}: {read}");
    }
    Ok(())
}

fn congestion_control() -> Result<(), String> {
    let vm = loads(&package("struct_ops"), None)?;
    vm.attach().map_err(reason)?;
    let known = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    assert!(known.contains("bpf_eunomia"), "{known}");
    Ok(())
}

fn delivers(buffer: &str) -> Result<(), String> {
    let vm = loads(&package(buffer), None)?;
    vm.attach().map_err(reason)?;
    let own = format!("\"tgid\":{},", std::process::id());
    let (mut seen, deadline) = (false, Instant::now() + Duration::from_secs(20));
    while !seen {
        assert!(Instant::now() < deadline, "{buffer}: attached, but nothing came");
        Trigger::Getpgid.pull(&vm);
        vm.poll(Some(Duration::from_millis(100)), Format::Json, |event: &eunomia::Event| {
            seen |= String::from_utf8_lossy(event.data).contains(&own);
            Flow::Continue
        })
        .map_err(reason)?;
    }
    Ok(())
}

/// The variable is set before load, and read and written after load.
fn variables() -> Result<(), String> {
    let vm = Vm::new(Options::new()).unwrap();
    vm.open(FEATURES, Kind::Json).map_err(reason)?;
    vm.prog_set_autoload("raw_tp", true).unwrap();
    vm.var_set_json("wanted", "7").map_err(reason)?;
    vm.attach().map_err(reason)?;
    vm.var_set_json("hits", "0").map_err(reason)?;
    iter::repeat_n((), 10).for_each(|()| Trigger::Getpgid.pull(&vm));
    let hits = hits(&vm);
    assert!(hits > 0 && hits % 7 == 0, "{hits}");
    Ok(())
}
