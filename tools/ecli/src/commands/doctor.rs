//! `ecli doctor`: checks the system for BPF support and suggests fixes.

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

/// The severity of a finding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    /// Some programs cannot run.
    Lacks,
    /// No program can run.
    Fails,
}

struct Finding {
    what: &'static str,
    grade: Grade,
    /// The finding.
    found: String,
    /// Advice for fixing the problem; empty if there is no problem.
    remedy: &'static str,
}

const TRACEFS_MAGIC: FsWord = 0x7472_6163;
const BPFFS_MAGIC: FsWord = 0xcafe_4a11;

/// Prints the findings. The exit code is `Code::Failed` if no program can run.
pub fn run(options: &Doctor) -> Result<ExitCode> {
    let findings = findings();
    let mut output = Output::open(None)?;
    let style = Style::of(output.is_terminal());
    let text = &mut output.buffer;
    for finding in &findings {
        if options.json { finding.write_json(text) } else { finding.write_text(style, text) }
    }
    output.finish()?;
    let fails = findings.iter().any(|finding| finding.grade == Grade::Fails);
    Ok(if fails { Code::Failed.into() } else { ExitCode::SUCCESS })
}

impl Finding {
    /// Appends a line of JSON.
    fn write_json(&self, out: &mut Vec<u8>) {
        let grade = match self.grade {
            Grade::Ok => "ok",
            Grade::Lacks => "lacks",
            Grade::Fails => "fails",
        };
        let value = json!({"what": self.what, "grade": grade, "found": self.found, "remedy": self.remedy});
        out.extend_from_slice(format!("{value}\n").as_bytes());
    }

    /// Appends a line, followed by a line with the remedy, if any.
    fn write_text(&self, style: Style, out: &mut Vec<u8>) {
        match self.grade {
            Grade::Ok => style.dim("ok    ", out),
            Grade::Lacks => style.bold("warn  ", out),
            Grade::Fails => style.bold("FAIL  ", out),
        }
        out.extend_from_slice(format!("{}: {}\n", self.what, self.found).as_bytes());
        if !self.remedy.is_empty() {
            out.extend_from_slice(format!("        {}\n", self.remedy).as_bytes());
        }
    }
}

fn findings() -> Vec<Finding> {
    vec![
        kernel(),
        privileges(),
        lockdown(),
        presence(
            "BTF of the kernel",
            "/sys/kernel/btf/vmlinux",
            Grade::Lacks,
            "requires CONFIG_DEBUG_INFO_BTF; without it, run a tar archive that contains BTF, or use --btf",
        ),
        tracefs(),
        mounted(
            "bpffs",
            "/sys/fs/bpf",
            BPFFS_MAGIC,
            "required for pinned maps: mount -t bpf bpf /sys/fs/bpf",
        ),
        cgroup2(),
        setting(
            "BPF JIT",
            "/proc/sys/net/core/bpf_jit_enable",
            |value| value != "0",
            "programs run slowly without the JIT compiler: sysctl net.core.bpf_jit_enable=1",
        ),
        setting(
            "unprivileged BPF",
            "/proc/sys/kernel/unprivileged_bpf_disabled",
            |value| value != "0",
            "any user can load programs, which is a security risk: sysctl kernel.unprivileged_bpf_disabled=2",
        ),
        perf_events(),
        setting(
            "addresses of the kernel",
            "/proc/sys/kernel/kptr_restrict",
            |value| value != "2",
            "kernel functions on stacks cannot be named: sysctl kernel.kptr_restrict=1",
        ),
        presence(
            "kprobes",
            eunomia::internal::constants::KPROBES,
            Grade::Lacks,
            "requires CONFIG_KPROBE_EVENTS; programs cannot attach to kernel functions",
        ),
        presence(
            "uprobes",
            "/sys/bus/event_source/devices/uprobe",
            Grade::Lacks,
            "requires CONFIG_UPROBE_EVENTS; programs cannot attach to functions of processes",
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
        let found = format!("none outside of user namespace {namespace}");
        let remedy = "the kernel requires CAP_BPF and CAP_PERFMON in the initial user namespace: run ecli outside of this one \
                      (a rootless container or unshare -U)";
        return Finding { what: "privileges", grade: Grade::Fails, found, remedy };
    }
    let missing = capabilities::missing();
    if missing.is_empty() {
        return Finding { what: "privileges", grade: Grade::Ok, found: capabilities::describe(), remedy: "" };
    }
    let remedy = "run ecli as root, or with: setpriv --inh-caps=+bpf,+perfmon,+net_admin --ambient-caps=+bpf,+perfmon,+net_admin";
    Finding {
        what: "privileges",
        grade: Grade::Fails,
        found: format!("missing {}", missing.join(", ")),
        remedy,
    }
}

fn lockdown() -> Finding {
    let state = read("/sys/kernel/security/lockdown").unwrap_or_else(|| "none".into());
    let is_locked = state.contains("[confidentiality]");
    let (grade, remedy) = match is_locked {
        true => (
            Grade::Lacks,
            "programs cannot read kernel memory: boot with lockdown=integrity or without Secure Boot",
        ),
        false => (Grade::Ok, ""),
    };
    Finding { what: "lockdown", grade, found: state, remedy }
}

fn presence(what: &'static str, path: &str, missing: Grade, remedy: &'static str) -> Finding {
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

/// By default, only root can read tracefs.
fn tracefs() -> Finding {
    let remedy = "required for tracepoints and probes: mount -t tracefs tracefs /sys/kernel/tracing";
    let finding = mounted("tracefs", TRACEFS, TRACEFS_MAGIC, remedy);
    if finding.grade != Grade::Ok || std::fs::read_dir(TRACEFS).is_ok() {
        return finding;
    }
    let (found, remedy) = (
        format!("{TRACEFS} is not readable"),
        "attaching to a tracepoint by name also requires CAP_DAC_READ_SEARCH",
    );
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

/// Debian's kernel adds the value 3, which refuses even processes with CAP_PERFMON.
fn perf_events() -> Finding {
    let finding = setting(
        "perf events",
        "/proc/sys/kernel/perf_event_paranoid",
        |value| value.parse::<i32>().is_ok_and(|value| value < 3),
        "profiling, perf buffers and probes require CAP_SYS_ADMIN: sysctl kernel.perf_event_paranoid=2",
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
        let remedy =
            "requires CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS; fentry and fexit programs cannot be loaded";
        return lacks("not built in".into(), remedy);
    }
    match std::fs::File::open(LIST) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && capabilities::is_admin() => lacks(
            format!("{LIST} is denied to root"),
            "the kernel is locked down and refuses fentry and fexit programs",
        ),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => lacks(
            "built in; without privileges, ecli cannot check whether the kernel allows it".into(),
            "run ecli doctor as root",
        ),
        Err(_) => lacks(
            "built in; without tracefs, ecli cannot check whether the kernel allows it".into(),
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
        Ok(_) => Finding { what, grade: Grade::Ok, found: "built in".into(), remedy: "" },
    }
}

/// Programs attach to cgroups of version 2, which may be mounted in addition to version 1.
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
            found: format!("{path} instead of {USUAL}: use --attach PROG=cgroup:{path}"),
            remedy: "",
        },
        (None, None) => Finding {
            what,
            grade: Grade::Lacks,
            found: "not mounted".into(),
            remedy: "required for programs that attach to cgroups: mkdir /run/cgroup2; mount -t cgroup2 cgroup2 /run/cgroup2; \
                     then use --attach PROG=cgroup:/run/cgroup2",
        },
    }
}

/// The mount point of cgroup2 in a line of /proc/self/mounts.
fn mounted_cgroup2(line: &str) -> Option<&str> {
    let mut words = line.split(' ').skip(1);
    let path = words.next()?;
    (words.next()? == "cgroup2").then_some(path)
}

/// Whether the kernel has a function of that name. Any user can read the names.
fn has_function(name: &str) -> bool {
    let symbols = std::fs::File::open("/proc/kallsyms").map(std::io::BufReader::new);
    symbols.is_ok_and(|symbols| {
        symbols.lines().map_while(Result::ok).any(|line| line.split(' ').nth(2) == Some(name))
    })
}

fn lsm() -> Finding {
    let what = "LSM";
    if !has_function("bpf_lsm_file_open") {
        let remedy = "requires CONFIG_BPF_LSM; LSM programs cannot be loaded";
        return Finding { what, grade: Grade::Lacks, found: "not built in".into(), remedy };
    }
    let list = read("/sys/kernel/security/lsm");
    let is_active = list.as_ref().map(|list| list.split(',').any(|name| name == "bpf"));
    let (grade, remedy) = match is_active {
        Some(true) => (Grade::Ok, ""),
        Some(false) => {
            (Grade::Lacks, "LSM programs have no effect: add bpf to lsm= on the kernel command line")
        }
        None => (
            Grade::Lacks,
            "cannot check whether it is enabled: mount -t securityfs securityfs /sys/kernel/security",
        ),
    };
    Finding { what, grade, found: list.unwrap_or_else(|| "built in".into()), remedy }
}

fn ring_buffers() -> Finding {
    let (grade, found, remedy) = match eunomia::internal::kernel_version() >= Some((5, 8)) {
        true => (Grade::Ok, "available since Linux 5.8", ""),
        false => (
            Grade::Lacks,
            "require Linux 5.8",
            "programs with ring buffers cannot be loaded; use perf buffers",
        ),
    };
    Finding { what: "ring buffers", grade, found: found.into(), remedy }
}
