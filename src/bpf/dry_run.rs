//! Finds out why a program could not be attached, without attaching it. `check` reports what a run would report.
//!
//! Most attach functions look up the target before they use the program. If the program is not loaded, they fail after
//! the lookup, so that nothing is attached.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::attach::{attach, check_usdt, lacks_function, open_cgroup};
use super::constants::prog_type;
use super::diagnose::attach_error;
use super::new_link::{interface, no_target};
use super::sys::object::ProgRef;
use super::{messages, requirements};
use crate::error::Result;
use crate::log::{Level, Log};
use crate::os::{self, Errno};
use crate::package::Target;

/// Returns the error of attaching a program to a target. The program is not loaded.
pub fn expect(prog: ProgRef<'_>, target: &Target) -> Result<()> {
    let section = prog.section_name();
    match prog.kind() {
        prog_type::XDP | prog_type::SCHED_CLS | prog_type::SCHED_ACT if target.attach.is_none() => {
            interface(prog, target).map(drop)
        }
        prog_type::SK_LOOKUP | prog_type::FLOW_DISSECTOR => Ok(()),
        _ if target.cgroup.is_some() => cgroup(prog, target),
        prog_type::PERF_EVENT => unloaded(prog, target),
        prog_type::KPROBE
        | prog_type::TRACEPOINT
        | prog_type::RAW_TRACEPOINT
        | prog_type::RAW_TRACEPOINT_WRITABLE => {
            traced(prog, target, target.attach.as_deref().unwrap_or(&section))
        }
        // load looks up these hooks by their types, or the host attaches the program itself.
        prog_type::TRACING | prog_type::LSM => Ok(()),
        _ => unloaded(prog, target),
    }
}

fn cgroup(prog: ProgRef<'_>, target: &Target) -> Result<()> {
    let path = target.cgroup.as_deref().unwrap_or_default();
    let place = format!("{} on cgroup {path:?}", prog.section_name());
    let failed = |e: Errno| attach_error(prog, &place, e, "");
    open_cgroup(path).map_err(|e| failed(Errno(e.raw_os_error().unwrap_or(libc::EINVAL))))?;
    // Only cgroup2 has this file.
    let is_cgroup2 = Path::new(path).join("cgroup.controllers").exists();
    if is_cgroup2 { Ok(()) } else { Err(failed(Errno(libc::EBADF))) }
}

/// Checks a tracepoint, a kernel probe or a user probe.
fn traced(prog: ProgRef<'_>, target: &Target, place: &str) -> Result<()> {
    let refused = |errno: i32| Err(attach_error(prog, place, Errno(errno), ""));
    let Some((hook, rest)) = place.split_once('/') else {
        let is_given = target.path.is_some() || target.func.is_some();
        return if is_given { unloaded(prog, target) } else { Err(no_target(prog)) };
    };
    let is_kernel = hook.starts_with('k');
    match hook {
        _ if lacks_function(place) && target.attach_keys().next().is_none() => Err(no_target(prog)),
        _ if is_kernel && !requirements::has_kprobes() => refused(libc::ENOENT),
        "kprobe" | "kretprobe" | "tp" | "tracepoint" | "uprobe" | "uretprobe" | "uprobe.s"
        | "uretprobe.s" => {
            let target = Target { attach: Some(place.to_owned()), ..target.clone() };
            unloaded(prog, &target)
        }
        "raw_tp" | "raw_tracepoint" | "raw_tp.w" | "raw_tracepoint.w" if !has_tracepoint(rest) => {
            refused(libc::ENOENT)
        }
        "usdt" => {
            let mut parts = rest.rsplitn(3, ':');
            let (name, provider) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let path = target.path.as_deref().or(parts.next()).unwrap_or_default();
            // A name without a slash is not checked, because libbpf looks it up.
            match path.contains('/') {
                true => check_usdt(path, provider, name).map_err(|e| prog.about(e, place)),
                false => Ok(()),
            }
        }
        _ if is_kernel && hook.contains('.') && !has_fprobe() => refused(libc::EOPNOTSUPP),
        _ if requirements::newer_for_hook(place).is_some() => refused(libc::EINVAL),
        _ => Ok(()),
    }
}

/// Attaches a program that is not loaded. If the only error is that the program is not loaded, attaching would have
/// succeeded.
fn unloaded(prog: ProgRef<'_>, target: &Target) -> Result<()> {
    let log = Arc::new(Log::new(None, Level::Error));
    match attach(prog, std::slice::from_ref(target), &log) {
        Err(e) if e.errno() == Some(libc::EINVAL) && messages::is_unloaded(e.detail()) => Ok(()),
        attached => attached.map(drop),
    }
}

/// Whether the kernel or a module has a raw tracepoint with that name. True if their types are not readable.
fn has_tracepoint(name: &str) -> bool {
    static NAMES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let names = NAMES.get_or_init(tracepoints);
    names.is_empty() || names.iter().any(|known| known == name.as_bytes())
}

/// Returns the names of all raw tracepoints. The types have a typedef for each of them.
fn tracepoints() -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    for file in fs::read_dir("/sys/kernel/btf").into_iter().flatten().flatten() {
        let types = fs::read(file.path()).unwrap_or_default();
        let found = types.split(|&byte| byte == 0).filter_map(|text| text.strip_prefix(b"btf_trace_"));
        names.extend(found.map(<[u8]>::to_vec));
    }
    names
}

/// Whether the kernel supports fprobe, which kprobe.multi uses. True if the kernel's symbols are not readable.
fn has_fprobe() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let functions = fs::read("/proc/kallsyms").unwrap_or_default();
        functions.is_empty() || os::find(&functions, b" register_fprobe_ips").is_some()
    })
}
