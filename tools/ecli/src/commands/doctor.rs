//! `ecli doctor`: what this machine has for BPF, what it lacks, and what helps.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{FsWord, statfs};
use serde_json::json;

use crate::capabilities::{self, TRACEFS};
use crate::error::{Code, Result};
use crate::options::Doctor;
use crate::output::Output;
use crate::terminal::Style;

/// How good a finding is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    /// Some programs do not run.
    Lacks,
    /// No program runs.
    Fails,
}

struct Finding {
    what: &'static str,
    grade: Grade,
    /// What there is.
    found: String,
    /// What to do about it; empty if nothing need be.
    remedy: &'static str,
}

const TRACEFS_MAGIC: FsWord = 0x7472_6163;
const BPFFS_MAGIC: FsWord = 0xcafe_4a11;

/// Prints the findings; `Code::Failed` if something is in the way of every program.
pub fn run(options: &Doctor) -> Result<ExitCode> {
    let findings = findings();
    let mut output = Output::open(None)?;
    let style = Style::of(output.is_terminal());
    let text = &mut output.buffer;
    for finding in &findings {
        let Finding { what, found, remedy, .. } = finding;
        let grade = match finding.grade {
            Grade::Ok => "ok",
            Grade::Lacks => "lacks",
            Grade::Fails => "FAILS",
        };
        if options.json {
            let value =
                json!({ "what": what, "grade": grade.to_lowercase(), "found": found, "remedy": remedy });
            text.extend_from_slice(format!("{value}\n").as_bytes());
            continue;
        }
        let grade = format!("{grade:<6}");
        if finding.grade == Grade::Ok {
            style.dim(&grade, text)
        } else {
            style.bold(&grade, text)
        }
        text.extend_from_slice(format!("{what}: {found}\n").as_bytes());
        if !remedy.is_empty() {
            text.extend_from_slice(format!("        {remedy}\n").as_bytes());
        }
    }
    output.finish()?;
    let fails = findings.iter().any(|finding| finding.grade == Grade::Fails);
    Ok(if fails { Code::Failed.into() } else { ExitCode::SUCCESS })
}

fn findings() -> Vec<Finding> {
    vec![
        kernel(),
        privileges(),
        lockdown(),
        there(
            "BTF of the kernel",
            "/sys/kernel/btf/vmlinux",
            Grade::Lacks,
            "needs CONFIG_DEBUG_INFO_BTF; without it programs run that bring BTF in a tar archive, or with --btf",
        ),
        tracefs(),
        mounted("bpffs", "/sys/fs/bpf", BPFFS_MAGIC, "pinned maps need it: mount -t bpf bpf /sys/fs/bpf"),
        cgroup2(),
        setting(
            "BPF JIT",
            "/proc/sys/net/core/bpf_jit_enable",
            |value| value != "0",
            "programs run slowly without it: sysctl net.core.bpf_jit_enable=1",
        ),
        setting(
            "unprivileged BPF",
            "/proc/sys/kernel/unprivileged_bpf_disabled",
            |value| value != "0",
            "any user may load programs, which has been a security problem: sysctl kernel.unprivileged_bpf_disabled=2",
        ),
        perf_events(),
        setting(
            "addresses of the kernel",
            "/proc/sys/kernel/kptr_restrict",
            |value| value != "2",
            "functions on stacks have no names: sysctl kernel.kptr_restrict=1",
        ),
        there(
            "kprobes",
            "/sys/bus/event_source/devices/kprobe",
            Grade::Lacks,
            "needs CONFIG_KPROBE_EVENTS; programs at functions of the kernel do not attach",
        ),
        there(
            "uprobes",
            "/sys/bus/event_source/devices/uprobe",
            Grade::Lacks,
            "needs CONFIG_UPROBE_EVENTS; programs at functions of processes do not attach",
        ),
        function_tracing(),
        lsm(),
        ring_buffers(),
    ]
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let found = format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy());
    Finding { what: "kernel", grade: Grade::Ok, found, remedy: "" }
}

fn privileges() -> Finding {
    if let Some(namespace) = capabilities::user_namespace() {
        let found = format!("none outside of the user namespace {namespace}");
        let remedy = "the kernel asks for CAP_BPF and CAP_PERFMON in the initial user namespace: run it outside of this one \
                      (not in a rootless container, not below unshare -U)";
        return Finding { what: "privileges", grade: Grade::Fails, found, remedy };
    }
    let missing = capabilities::missing();
    if missing.is_empty() {
        return Finding { what: "privileges", grade: Grade::Ok, found: capabilities::describe(), remedy: "" };
    }
    let remedy = "run it as root, or: setpriv --inh-caps=+bpf,+perfmon,+net_admin --ambient-caps=+bpf,+perfmon,+net_admin";
    Finding {
        what: "privileges",
        grade: Grade::Fails,
        found: format!("{} missing", missing.join(", ")),
        remedy,
    }
}

fn lockdown() -> Finding {
    let state = read("/sys/kernel/security/lockdown").unwrap_or_else(|| "none".into());
    let is_locked = state.contains("[confidentiality]");
    let (grade, remedy) = match is_locked {
        true => (
            Grade::Lacks,
            "programs cannot read the kernel's memory: boot with lockdown=integrity, or without secure boot",
        ),
        false => (Grade::Ok, ""),
    };
    Finding { what: "lockdown", grade, found: state, remedy }
}

fn there(what: &'static str, path: &str, missing: Grade, remedy: &'static str) -> Finding {
    match Path::new(path).exists() {
        true => Finding { what, grade: Grade::Ok, found: path.into(), remedy: "" },
        false => Finding { what, grade: missing, found: format!("no {path}"), remedy },
    }
}

fn mounted(what: &'static str, path: &str, magic: FsWord, remedy: &'static str) -> Finding {
    match statfs(path) {
        Ok(at) if at.f_type == magic => Finding { what, grade: Grade::Ok, found: path.into(), remedy: "" },
        _ => Finding { what, grade: Grade::Lacks, found: format!("not mounted at {path}"), remedy },
    }
}

/// By default only root may look into it.
fn tracefs() -> Finding {
    let remedy = "tracepoints and probes need it: mount -t tracefs tracefs /sys/kernel/tracing";
    let finding = mounted("tracefs", TRACEFS, TRACEFS_MAGIC, remedy);
    if finding.grade != Grade::Ok || std::fs::read_dir(TRACEFS).is_ok() {
        return finding;
    }
    let (found, remedy) =
        (format!("{TRACEFS} is not readable"), "tracepoints by name need CAP_DAC_READ_SEARCH besides");
    Finding { grade: Grade::Lacks, found, remedy, ..finding }
}

fn setting(what: &'static str, path: &str, is_good: fn(&str) -> bool, remedy: &'static str) -> Finding {
    let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
    match read(path) {
        Some(value) if is_good(&value) => {
            Finding { what, grade: Grade::Ok, found: format!("{name} = {value}"), remedy: "" }
        }
        Some(value) => Finding { what, grade: Grade::Lacks, found: format!("{name} = {value}"), remedy },
        None => Finding { what, grade: Grade::Ok, found: format!("no {name}"), remedy: "" },
    }
}

/// Debian's kernel has a value of its own, 3, that not even CAP_PERFMON gets past.
fn perf_events() -> Finding {
    let finding = setting(
        "perf events",
        "/proc/sys/kernel/perf_event_paranoid",
        |value| value.parse::<i32>().is_ok_and(|value| value < 3),
        "without CAP_SYS_ADMIN no perf events, so neither profiles nor perf buffers nor probes: sysctl kernel.perf_event_paranoid=2",
    );
    let grade = if capabilities::is_admin() { Grade::Ok } else { finding.grade };
    let remedy = if grade == Grade::Ok { "" } else { finding.remedy };
    Finding { grade, remedy, ..finding }
}

fn function_tracing() -> Finding {
    const LIST: &str = "/sys/kernel/tracing/available_filter_functions";
    let what = "fentry and fexit";
    let lacks = |found: String, remedy| Finding { what, grade: Grade::Lacks, found, remedy };
    if !has_function("register_ftrace_direct") {
        let remedy = "needs CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS; such programs do not load";
        return lacks("not built in".into(), remedy);
    }
    match std::fs::File::open(LIST) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && capabilities::is_admin() => lacks(
            format!("{LIST} is denied to root"),
            "this kernel is locked down; such programs do not load",
        ),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => lacks(
            "built in, but whether this kernel allows it is not known without privileges".into(),
            "run ecli doctor as root",
        ),
        Err(_) => lacks(
            "built in, but whether this kernel allows it is not known without tracefs".into(),
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
        Ok(_) => Finding { what, grade: Grade::Ok, found: "built in".into(), remedy: "" },
    }
}

/// Where programs of control groups attach; their folders are of the second version, which may be mounted beside the first.
fn cgroup2() -> Finding {
    const USUAL: &str = "/sys/fs/cgroup";
    let what = "cgroup2";
    let mounts = read("/proc/self/mounts").unwrap_or_default();
    let is_usual = |path: &&str| *path == USUAL;
    let paths: Vec<&str> = mounts.lines().filter_map(mounted_cgroup2).collect();
    match (paths.iter().find(|path| is_usual(path)), paths.first()) {
        (Some(_), _) => Finding { what, grade: Grade::Ok, found: USUAL.into(), remedy: "" },
        (None, Some(path)) => Finding {
            what,
            grade: Grade::Ok,
            found: format!("{path}, not {USUAL}: --attach PROG=cgroup:{path}"),
            remedy: "",
        },
        (None, None) => Finding {
            what,
            grade: Grade::Lacks,
            found: "not mounted".into(),
            remedy: "programs of control groups need it: mkdir /run/cgroup2; mount -t cgroup2 cgroup2 /run/cgroup2; \
                     then --attach PROG=cgroup:/run/cgroup2",
        },
    }
}

/// Where a line of /proc/self/mounts says that cgroup2 is mounted.
fn mounted_cgroup2(line: &str) -> Option<&str> {
    let mut words = line.split(' ').skip(1);
    let path = words.next()?;
    (words.next()? == "cgroup2").then_some(path)
}

/// Whether the kernel has a function of that name; names are there for anybody to read.
fn has_function(name: &str) -> bool {
    let symbols = std::fs::File::open("/proc/kallsyms").map(std::io::BufReader::new);
    symbols.is_ok_and(|symbols| {
        symbols.lines().map_while(Result::ok).any(|line| line.split(' ').nth(2) == Some(name))
    })
}

fn lsm() -> Finding {
    let what = "LSM";
    if !has_function("bpf_lsm_file_open") {
        let remedy = "needs CONFIG_BPF_LSM; LSM programs do not load";
        return Finding { what, grade: Grade::Lacks, found: "not built in".into(), remedy };
    }
    let list = read("/sys/kernel/security/lsm");
    let is_active = list.as_ref().map(|list| list.split(',').any(|name| name == "bpf"));
    let (grade, remedy) = match is_active {
        Some(true) => (Grade::Ok, ""),
        Some(false) => {
            (Grade::Lacks, "LSM programs do not act: add bpf to lsm= on the kernel's command line")
        }
        None => {
            (Grade::Lacks, "not known whether it acts: mount -t securityfs securityfs /sys/kernel/security")
        }
    };
    Finding { what, grade, found: list.unwrap_or_else(|| "built in".into()), remedy }
}

fn ring_buffers() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (grade, found, remedy) = match version >= (5, 8) {
        true => (Grade::Ok, "since Linux 5.8", ""),
        false => {
            (Grade::Lacks, "come with Linux 5.8", "programs with ring buffers do not load; use perf buffers")
        }
    };
    Finding { what: "ring buffers", grade, found: found.into(), remedy }
}
