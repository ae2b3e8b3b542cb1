//! Environments without tracefs, privileges, kernel BTF or descriptors. Each test runs itself again in a process of its own that
//! lacks one of them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use eunomia::{Error, Flow, Format, Kind, Options, Status, Vm};

use crate::fixture::{CALLS, Clean, call, events, package, refused, tid};
use crate::needs_root;
use crate::support::{child, kernel::descriptors, opened, run_ecc, vm_with};

/// Reads a kernel struct by CO-RE, so that loading needs the kernel's BTF.
const CORE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

const volatile u32 only_tid = 0;
u32 parent = 0;

SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();
    if ((u32)bpf_get_current_pid_tgid() == only_tid)
        parent = BPF_CORE_READ(task, real_parent, tgid);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

const NETWORK: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
SEC("tc")
int on_packet(struct __sk_buff *ctx)
{
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// Sources of all kinds, and programs of several types.
const EVERYTHING: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct event { u64 number; };
const volatile u32 only_tid = 0;

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } second_ring SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} perf SEC(".maps");
/// @sample {"interval": 1000, "type": "default_kv"}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16);
    __type(key, u32);
    __type(value, u64);
} counts SEC(".maps");

static int report(void *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    if (tid != only_tid)
        return 0;
    struct event event = {.number = 7};
    bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
    bpf_ringbuf_output(&second_ring, &event, sizeof(event), 0);
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
    bpf_map_update_elem(&counts, &tid, &event.number, 0);
    return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int by_tracepoint(void *ctx)
{
    return report(ctx);
}

SEC("raw_tp/sys_enter")
int by_raw_tracepoint(void *ctx)
{
    return 0;
}

SEC("uprobe/libc.so.6:getpgid")
int by_uprobe(void *ctx)
{
    return 0;
}

SEC("perf_event")
int by_perf_event(void *ctx)
{
    return 0;
}

SEC("iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    if (task && task->pid == only_tid)
        BPF_SEQ_PRINTF(ctx->meta->seq, "here\n");
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// Runs a test again through `wrapper`, with these packages in its directory, and checks that it leaves nothing behind.
fn again(test: &str, wrapper: &[&str], packages: &[(&str, &'static str)]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for (name, source) in packages {
        std::fs::write(folder.path().join(name), package(source)).unwrap();
    }
    let clean = Clean::new();
    child::run(&format!("environment::{test}"), wrapper, folder.path());
    drop(clean);
}

/// A wrapper that first runs a shell line, in a mount namespace of its own.
fn mounting(line: &str) -> [String; 6] {
    let script = format!("{line} && exec \"$@\"");
    ["unshare", "-m", "sh", "-ec", &script, "sh"].map(String::from)
}

fn words(wrapper: &[String]) -> Vec<&str> {
    wrapper.iter().map(String::as_str).collect()
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

/// Opens a package for this thread alone.
fn own(package: &[u8], options: Options) -> Vm {
    let (vm, _log) = vm_with(options);
    vm.open(package, Kind::Json).unwrap();
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    vm
}

#[test]
fn a_missing_tracefs_is_reported_with_the_mount_command() {
    needs_root!();
    let Some(folder) = child::folder() else {
        let wrapper = mounting("umount -R /sys/kernel/tracing; umount -lR /sys/kernel/debug 2>&- || :");
        return again(
            "a_missing_tracefs_is_reported_with_the_mount_command",
            &words(&wrapper),
            &[("calls", CALLS), ("core", CORE)],
        );
    };
    let clean = Clean::new();
    let vm = own(&read(&folder, "calls"), Options::new());
    let words = ["on_enter", "tracefs is not mounted", "mount -t tracefs tracefs /sys/kernel/tracing"];
    refused(vm.attach(), Status::Attach, &words);
    clean.nothing_in_kernel();
    vm.load().unwrap();
    drop(vm);
    // Programs that need no tracefs work.
    let vm = own(&read(&folder, "core"), Options::new());
    vm.attach().unwrap();
    call(1);
    assert_ne!(vm.var_get_json("parent").unwrap(), "0");
    drop(vm);
    drop(clean);
}

/// A wrapper that drops all capabilities except these.
fn with_capabilities(capabilities: &str) -> Vec<String> {
    let set = format!("-all{}{capabilities}", if capabilities.is_empty() { "" } else { "," });
    ["setpriv", "--inh-caps", "-all", "--bounding-set", &set].map(String::from).to_vec()
}

#[test]
fn all_missing_privileges_are_named() {
    needs_root!();
    let Some(folder) = child::folder() else {
        return again(
            "all_missing_privileges_are_named",
            &words(&with_capabilities("")),
            &[("calls", CALLS), ("network", NETWORK)],
        );
    };
    let vm = own(&read(&folder, "calls"), Options::new());
    let before = descriptors();
    for _ in 0..2 {
        refused(vm.load(), Status::Perm, &["CAP_BPF and CAP_PERFMON"]);
        refused(vm.attach(), Status::Perm, &["CAP_BPF and CAP_PERFMON"]);
    }
    assert_eq!(descriptors(), before);
    let vm = opened(&read(&folder, "network"));
    refused(vm.load(), Status::Perm, &["CAP_BPF and CAP_NET_ADMIN"]);
}

#[test]
fn the_missing_one_of_two_capabilities_is_named() {
    needs_root!();
    let Some(folder) = child::folder() else {
        return again(
            "the_missing_one_of_two_capabilities_is_named",
            &words(&with_capabilities("+bpf")),
            &[("calls", CALLS), ("network", NETWORK)],
        );
    };
    let vm = own(&read(&folder, "calls"), Options::new());
    let error = refused(vm.load(), Status::Perm, &["needs CAP_PERFMON"]);
    assert!(!error.message().contains("CAP_BPF"), "{error}");
    let vm = opened(&read(&folder, "network"));
    refused(vm.load(), Status::Perm, &["\"on_packet\"", "needs CAP_NET_ADMIN"]);
}

#[test]
fn two_capabilities_are_enough_to_trace() {
    needs_root!();
    let Some(folder) = child::folder() else {
        return again(
            "two_capabilities_are_enough_to_trace",
            &words(&with_capabilities("+bpf,+perfmon")),
            &[("calls", CALLS)],
        );
    };
    let vm = own(&read(&folder, "calls"), Options::new());
    vm.attach().unwrap();
    call(1);
    assert_eq!(events(&vm, Format::Json, 2).len(), 2);
}

#[test]
fn privileges_dropped_before_attach_are_named() {
    needs_root!();
    let Some(folder) = child::folder() else {
        return again(
            "privileges_dropped_before_attach_are_named",
            &[],
            &[("calls", CALLS), ("network", NETWORK)],
        );
    };
    let clean = Clean::new();
    let tracing = own(&read(&folder, "calls"), Options::new());
    let network = opened(&read(&folder, "network"));
    tracing.load().unwrap();
    network.load().unwrap();
    // capset(2): nothing in the effective set of this thread.
    let head = [0x2008_0522_u32, 0];
    let mut held = [0_u32; 6];
    // SAFETY: both arrays have the layout and length of version 3.
    unsafe { assert_eq!(libc::syscall(libc::SYS_capget, head.as_ptr(), held.as_mut_ptr()), 0) };
    let none = [0, held[1], held[2], 0, held[4], held[5]];
    // SAFETY: as above.
    unsafe { assert_eq!(libc::syscall(libc::SYS_capset, head.as_ptr(), none.as_ptr()), 0) };
    refused(tracing.attach(), Status::Perm, &["\"on_enter\"", "CAP_PERFMON"]);
    refused(network.attach(), Status::Perm, &["\"on_packet\"", "CAP_NET_ADMIN"]);
    // SAFETY: as above.
    unsafe { assert_eq!(libc::syscall(libc::SYS_capset, head.as_ptr(), held.as_ptr()), 0) };
    tracing.attach().unwrap();
    drop((tracing, network));
    drop(clean);
}

#[test]
fn a_fixed_limit_of_locked_memory_does_not_prevent_loading() {
    needs_root!();
    let Some(folder) = child::folder() else {
        let wrapper = ["prlimit", "--memlock=0:0", "setpriv", "--bounding-set", "-sys_resource"];
        return again(
            "a_fixed_limit_of_locked_memory_does_not_prevent_loading",
            &wrapper,
            &[("calls", CALLS), ("everything", EVERYTHING)],
        );
    };
    let clean = Clean::new();
    for name in ["calls", "everything"] {
        let vm = own(&read(&folder, name), Options::new());
        vm.attach().unwrap();
        call(1);
        events(&vm, Format::Json, 2);
    }
    drop(clean);
}

#[test]
fn too_many_perf_pages_for_a_user_without_privilege_are_explained() {
    needs_root!();
    let Some(folder) = child::folder() else {
        let mut wrapper = vec!["prlimit".to_owned(), "--memlock=0:0".to_owned()];
        wrapper.extend(with_capabilities("+bpf,+perfmon"));
        return again(
            "too_many_perf_pages_for_a_user_without_privilege_are_explained",
            &words(&wrapper),
            &[("everything", EVERYTHING)],
        );
    };
    let vm = own(&read(&folder, "everything"), Options::new().perf_pages(8192));
    refused(vm.load(), Status::Perm, &["map \"perf\"", "CAP_IPC_LOCK", "8192"]);
}

/// The path of this kernel's BTF in a BTFHub archive.
fn archived(folder: &Path) -> std::path::PathBuf {
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
        line.trim_matches('"').to_owned()
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let name = format!("{}.btf", kernel.trim());
    folder.join("archive").join(value("ID")).join(value("VERSION_ID")).join(std::env::consts::ARCH).join(name)
}

#[test]
fn a_package_may_contain_btf_for_kernels_without_it() {
    needs_root!();
    let Some(folder) = child::folder() else {
        let folder = tempfile::tempdir().unwrap();
        let (source, archived) = (folder.path().join("core.bpf.c"), archived(folder.path()));
        std::fs::write(&source, CORE).unwrap();
        std::fs::create_dir_all(archived.parent().unwrap()).unwrap();
        std::fs::copy("/sys/kernel/btf/vmlinux", &archived).unwrap();
        let archive = folder.path().join("archive");
        let options = ["--btfgen", "--btfhub-archive"].map(Path::new);
        run_ecc(&[&source, options[0], options[1], &archive], folder.path());
        let wrapper = mounting("mount -t tmpfs none /sys/kernel/btf");
        let test = "environment::a_package_may_contain_btf_for_kernels_without_it";
        return child::run(test, &words(&wrapper), folder.path());
    };
    let clean = Clean::new();
    let package = read(&folder, "package.json");
    let vm = own(&package, Options::new());
    vm.attach().unwrap();
    call(1);
    // SAFETY: no arguments.
    assert_eq!(vm.var_get_json("parent").unwrap(), unsafe { libc::getppid() }.to_string());
    drop(vm);

    // The host's file takes precedence.
    let missing = Options::new().btf_path(folder.join("missing.btf"));
    refused(vm_with(missing).0.open(&package, Kind::Json), Status::NotFound, &["missing.btf"]);

    let renamed = |from: &str, to: &str| String::from_utf8_lossy(&package).replace(from, to).into_bytes();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let vm = own(&renamed(release.trim(), "0.0.0"), Options::new());
    let words = ["no BTF", "the package has none for ", &format!("/{}", release.trim()), "btf_path"];
    refused(vm.load(), Status::Unsupported, &words);
    drop(vm);

    for (broken, word) in [
        (renamed("\"types\":[{", "\"types\":[{},{"), "kernel_btf.types[0].data: missing"),
        (renamed("\"types\":[{\"data\":\"", "\"types\":[{\"data\":\"AAAA"), "kernel_btf.types[0]: "),
        (renamed("\"types\":[{\"data\"", "\"types\":[{\"none\""), "kernel_btf.types[0].data: "),
    ] {
        let vm = vm_with(Options::new()).0;
        refused(vm.open(&broken, Kind::Json), Status::Package, &[word]);
    }
    drop(clean);
}

#[test]
fn a_kernel_without_btf_is_reported_with_a_remedy() {
    needs_root!();
    let Some(folder) = child::folder() else {
        let wrapper = mounting(
            "cp /sys/kernel/btf/vmlinux $EUNOMIA_TEST_FOLDER/kernel.btf && mount -t tmpfs none /sys/kernel/btf",
        );
        return again(
            "a_kernel_without_btf_is_reported_with_a_remedy",
            &words(&wrapper),
            &[("core", CORE), ("calls", CALLS), ("everything", EVERYTHING)],
        );
    };
    let clean = Clean::new();
    let core = read(&folder, "core");
    let with = |path: &Path| Options::new().btf_path(path);
    let works = |vm: Vm| {
        vm.attach().unwrap();
        call(1);
        // SAFETY: no arguments.
        assert_eq!(vm.var_get_json("parent").unwrap(), unsafe { libc::getppid() }.to_string());
    };

    let vm = own(&core, Options::new());
    let words = ["no BTF", "/sys/kernel/btf/vmlinux", "btf_path"];
    refused(vm.load(), Status::Unsupported, &words);
    refused(vm.attach(), Status::Unsupported, &words);
    // Iterators need the kernel's BTF too, because they find their types there.
    refused(own(&read(&folder, "everything"), Options::new()).load(), Status::Unsupported, &words);
    clean.nothing_in_kernel();
    drop(vm);

    // A package that reads no kernel structures needs no BTF.
    let vm = own(&read(&folder, "calls"), Options::new());
    vm.attach().unwrap();
    call(1);
    assert_eq!(events(&vm, Format::Json, 2).len(), 2);
    drop(vm);

    works(own(&core, with(&folder.join("kernel.btf"))));
    let archived = archived(&folder);
    let (vm, _log) = vm_with(with(&folder.join("archive")));
    std::fs::create_dir(folder.join("archive")).unwrap();
    refused(vm.open(&core, Kind::Json), Status::NotFound, &["btf_path", archived.to_str().unwrap()]);
    std::fs::create_dir_all(archived.parent().unwrap()).unwrap();
    std::fs::copy(folder.join("kernel.btf"), &archived).unwrap();
    works(own(&core, with(&folder.join("archive"))));
    drop(vm);
    drop(clean);
}

#[test]
fn an_invalid_btf_file_is_named() {
    needs_root!();
    let core = package(CORE);
    let clean = Clean::new();
    let folder = tempfile::tempdir().unwrap();
    let with = |path: &Path| Options::new().btf_path(path);
    let nowhere = folder.path().join("nowhere.btf");
    let (vm, _log) = vm_with(with(&nowhere));
    refused(vm.open(&core, Kind::Json), Status::NotFound, &["btf_path", nowhere.to_str().unwrap()]);
    drop(vm);
    for content in [&b""[..], b"this is no BTF", b"\x9f\xeb\x01\x00\x18\x00\x00\x00"] {
        let file = folder.path().join("bad.btf");
        std::fs::write(&file, content).unwrap();
        let (vm, _log) = vm_with(with(&file));
        vm.open(&core, Kind::Json).unwrap();
        refused(vm.load(), Status::Inval, &["btf_path", file.to_str().unwrap()]);
        clean.nothing_in_kernel();
        drop(vm);
    }
    drop(clean);
}

fn limit_descriptors(count: u64) {
    // SAFETY: the struct lives for the calls.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = count.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

/// Repeats `work` with a growing limit until it succeeds three times in a row. Each failure has a message and leaves
/// nothing behind.
fn with_every_limit<T>(what: &str, mut work: impl FnMut() -> Result<T, Error>) {
    let mut worked = 0;
    for limit in 0..200 {
        let before = descriptors();
        limit_descriptors(limit);
        let done = work();
        limit_descriptors(u64::MAX);
        match done {
            Ok(_) => worked += 1,
            Err(e) => {
                assert_eq!(worked, 0, "{what} with {limit} descriptors, but not with one less: {e}");
                assert_eq!(
                    (e.status(), e.errno()),
                    (Status::System, Some(libc::EMFILE)),
                    "{what}, {limit}: {e} ({})",
                    e.detail()
                );
                let names_it =
                    e.message().contains("descriptors") || e.message().contains("Too many open files");
                assert!(names_it, "{what}, {limit}: {e}");
                assert_eq!(descriptors(), before, "{what}, {limit}: {e}");
            }
        }
        if worked == 3 {
            return;
        }
    }
    panic!("{what} works with no limit");
}

#[test]
fn running_out_of_descriptors_is_reported_and_survived() {
    needs_root!();
    let Some(folder) = child::folder() else {
        return again(
            "running_out_of_descriptors_is_reported_and_survived",
            &[],
            &[("everything", EVERYTHING)],
        );
    };
    let clean = Clean::new();
    let package = read(&folder, "everything");
    let quiet = || Vm::new(Options::new());
    with_every_limit("a whole life", || {
        let vm = quiet()?;
        vm.open(&package, Kind::Json)?;
        vm.load()?;
        vm.attach()
    });
    with_every_limit("new", quiet);
    with_every_limit("open", || {
        limit_descriptors(100);
        let vm = quiet()?;
        vm.open(&package, Kind::Json).map(|_| ())
    });

    let vm = own(&package, Options::new());
    let held = vm.var_get_json("only_tid").unwrap();
    with_every_limit("load", || {
        vm.load().or_else(|e| if e.status() == Status::State { Ok(()) } else { Err(e) })
    });
    assert_eq!(vm.var_get_json("only_tid").unwrap(), held);
    with_every_limit("attach", || {
        vm.attach().inspect(|()| {
            for index in 0..vm.prog_count().unwrap() {
                assert!(vm.prog_at(index).unwrap().attached);
            }
            vm.detach().unwrap();
        })
    });
    vm.attach().unwrap();
    with_every_limit("iterate", || {
        let mut lines = 0;
        let count = vm.iter_each("list_tasks", |_| {
            lines += 1;
            Flow::Continue
        });
        count.inspect(|count| assert_eq!((*count, lines), (1, 1)))
    });
    with_every_limit("queue", || {
        vm.queue_start(0)?;
        vm.queue_stop().unwrap();
        vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue).map(|_| ())
    });

    // Afterwards everything still works, including the optional features of the kernel.
    call(1);
    let sources: std::collections::BTreeSet<String> =
        events(&vm, Format::Json, 4).into_iter().map(|event| event.source).collect();
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), ["counts", "perf", "ring", "second_ring"]);
    drop(vm);
    drop(clean);
}

#[test]
fn closed_standard_descriptors_are_not_reused() {
    needs_root!();
    let Some(folder) = child::folder() else {
        return again("closed_standard_descriptors_are_not_reused", &[], &[("everything", EVERYTHING)]);
    };
    let clean = Clean::new();
    let package = read(&folder, "everything");
    // SAFETY: the numbers of the copies are above all open descriptors, and the copies are restored.
    let saved = [0, 1, 2].map(|fd| unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 500) });
    // SAFETY: nothing writes to these descriptors until they are restored.
    (0..3).for_each(|fd| assert_eq!(unsafe { libc::close(fd) }, 0));
    let mut taken = Vec::new();
    let mut look = |when: &'static str| {
        taken.extend(descriptors().into_iter().filter(|(fd, _)| *fd < 3).map(|fd| (when, fd)))
    };
    let life = || -> Result<(), Error> {
        let vm = Vm::new(Options::new())?;
        look("new");
        vm.open(&package, Kind::Json)?;
        look("open");
        vm.load()?;
        look("load");
        vm.attach()?;
        look("attach");
        vm.queue_start(0)?;
        look("queue");
        vm.queue_stop()?;
        vm.iter_each("list_tasks", |_| Flow::Continue)?;
        vm.detach()?;
        look("detach");
        vm.attach()
    };
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
    for (fd, copy) in (0..).zip(saved) {
        // SAFETY: as above.
        unsafe {
            assert_eq!(libc::dup2(copy, fd), fd);
            libc::close(copy);
        }
    }
    lived.unwrap().unwrap();
    assert_eq!(taken, []);
    drop(clean);
}

/// Until its exec, a child holds copies of the parent's descriptors, including those of links that end with their last
/// descriptor.
#[test]
fn programs_attach_again_while_the_host_starts_commands() {
    needs_root!();
    let over = AtomicBool::new(false);
    let vm = opened(&package(CALLS));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut command = Command::new("true");
            // SAFETY: one call that a child may make between fork and exec. This makes the time until exec long enough
            // to be noticed each time.
            unsafe {
                command.pre_exec(|| {
                    libc::usleep(20_000);
                    Ok(())
                });
            }
            while !over.load(Relaxed) {
                assert!(command.status().unwrap().success());
            }
        });
        let again = (0..40).try_for_each(|_| {
            vm.attach()?;
            vm.detach()
        });
        over.store(true, Relaxed);
        again.unwrap();
    });
}
