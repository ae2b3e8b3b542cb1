//! Attaches programs: by their section if that specifies a target, otherwise by the target of the package or the host.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::constants::prog_type;
use super::new_link::{create_link, interface, lacks_keys, no_target};
use super::sys::attach::{Link, PerfEvent, UserProbe, perf_event_open};
use super::sys::object::ProgRef;
use super::{attach_tc, executable};
use crate::error::{Error, Result, Status};
use crate::log::{self, Log};
use crate::os;
use crate::package::{PerfSample, Target, is_listed, split_offset};

/// Program types that attach to a control group.
pub const OF_CGROUPS: [u32; 7] = [
    prog_type::CGROUP_SKB,
    prog_type::CGROUP_SOCK,
    prog_type::SOCK_OPS,
    prog_type::CGROUP_DEVICE,
    prog_type::CGROUP_SOCK_ADDR,
    prog_type::CGROUP_SYSCTL,
    prog_type::CGROUP_SOCKOPT,
];

/// Attaches a program to each of its targets. If one fails, the others are detached.
pub fn attach(prog: ProgRef<'_>, targets: &[Target], log: &Arc<Log>) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for target in targets {
        links.extend(attach_one(prog, target, log)?);
    }
    Ok(links)
}

/// Whether a program can be attached. Syscall programs are not attached: the host runs them. struct_ops programs are
/// attached with their map.
pub fn is_attachable(prog: ProgRef<'_>) -> bool {
    !matches!(prog.kind(), prog_type::SYSCALL | prog_type::STRUCT_OPS)
}

fn attach_one(prog: ProgRef<'_>, target: &Target, log: &Arc<Log>) -> Result<Vec<Link>> {
    let section = prog.section_name();
    let place = target.attach.as_deref().unwrap_or(&section);
    check_keys(prog, place, target)?;
    if target.attach.is_some() {
        return attach_at_place(prog, place, target, log);
    }
    match prog.kind() {
        prog_type::XDP => {
            let (index, place) = interface(prog, target)?;
            create_link(prog, &place, log, &|| prog.attach_xdp(index, target.flags))
        }
        prog_type::SCHED_CLS | prog_type::SCHED_ACT => attach_tc::attach(prog, target, log),
        prog_type::PERF_EVENT => perf_events(prog, target, log),
        kind if OF_CGROUPS.contains(&kind) => cgroup(prog, target, log),
        prog_type::SK_LOOKUP | prog_type::FLOW_DISSECTOR => network_namespace(prog, log),
        prog_type::TRACEPOINT if place.split('/').nth(2).is_some() => {
            attach_at_place(prog, place, target, log)
        }
        _ if target.attach_keys().next().is_some() => attach_at_place(prog, place, target, log),
        _ if lacks_function(place) => Err(no_target(prog)),
        _ => create_link(prog, place, log, &|| prog.attach()),
    }
}

/// Whether the section of a user probe names an executable without a function, or a placeholder for both. libbpf reports
/// only that the format of such a section is wrong.
pub(super) fn lacks_function(place: &str) -> bool {
    let (hook, rest) = place.split_once('/').unwrap_or_default();
    let is_probe = matches!(hook.split('.').next(), Some("uprobe" | "uretprobe"));
    is_probe && rest.rsplit_once(':').is_none_or(|(_, function)| function.is_empty())
}

/// Refuses keys of a target that do not apply to such a program, because they would be ignored.
fn check_keys(prog: ProgRef<'_>, place: &str, target: &Target) -> Result<()> {
    let used = match (prog.kind(), place.split(['/', '.']).next()) {
        (prog_type::PERF_EVENT, _) => "pid, perf_event",
        (prog_type::XDP, _) => "interface, flags",
        (prog_type::SCHED_CLS | prog_type::SCHED_ACT, _) => "interface, tchook, tcopts",
        (kind, _) if OF_CGROUPS.contains(&kind) => "cgroup",
        (_, Some("kprobe" | "kretprobe")) => "func, offset",
        (_, Some("uprobe" | "uretprobe")) => "path, func, offset, address, build_id, pid",
        (_, Some("usdt")) => "path, pid",
        _ => "attach",
    };
    match target.attach_keys().find(|key| !is_listed(used, key)) {
        None => Ok(()),
        Some(key) => {
            let reason = "which does not apply to such a program; keys that do";
            Err(prog.about(
                Error::new(Status::Inval, format_args!("its target has {key:?}, {reason}: {used}")),
                place,
            ))
        }
    }
}

/// Attaches to one perf event on each online CPU. The default is the software clock at 99 Hz, which virtual machines also
/// have.
fn perf_events(prog: ProgRef<'_>, target: &Target, log: &Arc<Log>) -> Result<Vec<Link>> {
    const PERF_TYPE_SOFTWARE: u32 = 1;
    const CPU_CLOCK: u64 = 0;
    let (kind, config, sample) = match &target.perf {
        Some(perf) => (perf.kind, perf.config, perf.sample),
        None => (PERF_TYPE_SOFTWARE, CPU_CLOCK, PerfSample::Frequency(99)),
    };
    let (sample, is_frequency) = match sample {
        PerfSample::Frequency(hertz) => (hertz, true),
        PerfSample::Period(events) => (events, false),
    };
    let place = format!("perf event type {kind} config {config}");
    let pid = target.pid.unwrap_or(-1);
    let mut links = Vec::new();
    let cpus =
        os::online_cpus().map_err(|e| Error::sys(Status::System, e.0, format_args!("online CPUs: {e}")))?;
    for cpu in cpus {
        let event = PerfEvent { kind, config, sample, is_frequency, pid, cpu };
        links.extend(create_link(prog, &place, log, &|| prog.attach_perf_event(perf_event_open(&event)?))?);
    }
    Ok(links)
}

fn cgroup(prog: ProgRef<'_>, target: &Target, log: &Arc<Log>) -> Result<Vec<Link>> {
    let path = match &target.cgroup {
        Some(path) => path.clone(),
        None => return Err(lacks_keys(prog, "\"cgroup\"")),
    };
    let place = format!("{} on cgroup {path:?}", prog.section_name());
    create_link(prog, &place, log, &|| prog.attach_cgroup(open_cgroup(&path)?.as_fd()))
}

/// Opens a directory. Fails for any other file, without blocking.
pub fn open_cgroup(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

fn network_namespace(prog: ProgRef<'_>, log: &Arc<Log>) -> Result<Vec<Link>> {
    let own = "/proc/thread-self/ns/net";
    create_link(prog, &prog.section_name(), log, &|| prog.attach_netns(File::open(own)?.as_fd()))
}

/// Attaches to a place that is written like a section. Path, function and process come from the target if it has them.
fn attach_at_place(prog: ProgRef<'_>, place: &str, target: &Target, log: &Arc<Log>) -> Result<Vec<Link>> {
    let (kind, rest) = place.split_once('/').unwrap_or((place, ""));
    let text = |text: &str| c_text(prog, place, text);
    match kind {
        "tp" | "tracepoint" => {
            let (category, name) = rest.split_once('/').ok_or_else(|| bad_place(prog, place))?;
            let (category, name) = (text(category)?, text(name)?);
            create_link(prog, place, log, &|| prog.attach_tracepoint(rest, &category, &name))
        }
        "raw_tp" | "raw_tracepoint" => {
            let name = text(rest)?;
            create_link(prog, place, log, &|| prog.attach_raw_tracepoint(&name))
        }
        "kprobe" | "kretprobe" => {
            let (func, offset) = split_offset(target.func.as_deref().unwrap_or(rest));
            let (func, offset) = (text(func)?, offset.wrapping_add(target.offset.unwrap_or(0)));
            let on_return = kind == "kretprobe";
            create_link(prog, place, log, &|| prog.attach_kprobe(&func, offset, on_return))
        }
        "uprobe" | "uretprobe" | "uprobe.s" | "uretprobe.s" => uprobe(prog, place, rest, target, log),
        "usdt" => usdt(prog, place, rest, target, log),
        _ => Err(bad_place(prog, place)),
    }
}

/// Attaches to `path:function`, or to an offset in the file. The parts in the target replace those in the section.
fn uprobe(prog: ProgRef<'_>, place: &str, rest: &str, target: &Target, log: &Arc<Log>) -> Result<Vec<Link>> {
    let text = |text: &str| c_text(prog, place, text);
    let part = |own: &Option<String>, section: &str| {
        own.clone().or_else(|| (!section.is_empty()).then(|| section.to_owned()))
    };
    let (path, func) = rest.rsplit_once(':').unwrap_or((rest, ""));
    let missing = || lacks_keys(prog, "\"path\" and \"func\"");
    let path = match (part(&target.path, path), target.build_id.as_deref(), target.pid) {
        (None, Some(build_id), Some(pid)) if pid > 0 => mapped(pid, build_id)?,
        (path, build_id, _) => {
            let path = path.ok_or_else(missing)?;
            build_id.map_or(Ok(()), |build_id| check_build_id(&path, build_id))?;
            path
        }
    };
    let func = part(&target.func, func).filter(|_| target.address.is_none());
    let on_return = place.starts_with("uret");
    let (func, offset) = match (func.as_deref().map(split_offset), target.address) {
        (Some((func, offset)), _) => (Some(text(func)?), offset.wrapping_add(target.offset.unwrap_or(0))),
        (None, Some(address)) => (None, code_at(&path, address)?),
        (None, None) => (None, target.offset.ok_or_else(missing)?),
    };
    if on_return && func.is_some() && offset != 0 {
        let error = Error::new(Status::Inval, "a return probe cannot have an offset");
        return Err(prog.about(error, place));
    }
    check_plain(&path)?;
    let path = text(&path)?;
    let pid = target.pid.unwrap_or(-1);
    let probe = UserProbe { pid, path: &path, func: func.as_deref(), offset, on_return };
    create_link(prog, place, log, &|| prog.attach_uprobe(&probe))
}

/// Refuses everything but regular files, because libbpf would block when it opens a FIFO. A name without a slash is not
/// checked, because libbpf looks it up.
fn check_plain(path: &str) -> Result<()> {
    let is_other = path.contains('/') && std::fs::metadata(path).is_ok_and(|file| !file.is_file());
    if is_other { Err(no_binary(path, "not a regular file")) } else { Ok(()) }
}

/// Returns the file offset of the code at an address.
fn code_at(path: &str, address: u64) -> Result<u64> {
    let offset = open_binary(path)?.offset(address);
    offset.ok_or_else(|| no_binary(path, format_args!("has no code at address {address:#x}")))
}

fn check_build_id(path: &str, build_id: &str) -> Result<()> {
    match open_binary(path)?.build_id() {
        found if found == build_id => Ok(()),
        found => Err(no_binary(path, format_args!("its build id is {found:?}, not {build_id:?}"))),
    }
}

/// Checks that a file has a USDT probe.
pub fn check_usdt(path: &str, provider: &str, name: &str) -> Result<()> {
    let has = open_binary(path)?.mentions(format!("{provider}\0{name}\0").as_bytes());
    if has { Ok(()) } else { Err(no_binary(path, format_args!("has no USDT probe \"{provider}:{name}\""))) }
}

fn open_binary(path: &str) -> Result<executable::Executable> {
    executable::Executable::open(path).map_err(|e| match e.0 {
        libc::ENOEXEC => no_binary(path, "not a 64-bit ELF file with this machine's byte order"),
        _ => no_binary(path, e),
    })
}

/// Returns the file that a process has mapped and that has the build id.
fn mapped(pid: i32, build_id: &str) -> Result<String> {
    let folder = format!("/proc/{pid}/map_files");
    let found = executable::mapped(&folder, build_id);
    found.ok_or_else(|| no_binary(&folder, format_args!("no mapped file has the build id {build_id:?}")))
}

fn no_binary(path: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Status::NotFound, why).about_file(path)
}

/// Attaches to `path:provider:name`.
fn usdt(prog: ProgRef<'_>, place: &str, rest: &str, target: &Target, log: &Arc<Log>) -> Result<Vec<Link>> {
    let mut parts = rest.rsplitn(3, ':');
    let parts = (parts.next(), parts.next(), target.path.as_deref().or(parts.next()));
    let (Some(name), Some(provider), Some(path)) = parts else { return Err(bad_place(prog, place)) };
    let text = |text: &str| c_text(prog, place, text);
    check_plain(path)?;
    let (path, provider, name) = (text(path)?, text(provider)?, text(name)?);
    let pid = target.pid.unwrap_or(-1);
    create_link(prog, place, log, &|| prog.attach_usdt(pid, &path, &provider, &name))
}

#[inline(never)]
fn c_text(prog: ProgRef<'_>, place: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| bad_place(prog, place))
}

#[cold]
#[inline(never)]
fn bad_place(prog: ProgRef<'_>, place: &str) -> Error {
    prog.about(Error::new(Status::Attach, format_args!("cannot be attached to {place:?}")), "")
}

/// Attaches a struct_ops map.
pub fn attach_struct_ops(
    name: &CStr,
    log: &Arc<Log>,
    make: impl FnOnce() -> os::Result<Link>,
) -> Result<Link> {
    let (link, printed) = log::capture(log, make);
    link.map_err(|e| {
        let error = Error::sys(Status::Attach, e.0, format_args!("struct_ops: {e}")).with_detail(&printed);
        error.about_map(&name.to_string_lossy())
    })
}
