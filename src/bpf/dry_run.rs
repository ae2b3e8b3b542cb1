//! What would keep a program from being attached, found out without attaching it. For `check`, which says what a run would.
//!
//! Most ways to attach find their target before they ask for the program: with one that is not loaded they end there.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::attach::{attach, check_usdt, interface, lacks_function, no_target, open_cgroup};
use super::constants::prog_type;
use super::diagnose::attach_error;
use super::sys::object::ProgRef;
use super::{messages, requirements};
use crate::error::Result;
use crate::log::{Level, Log};
use crate::os::{self, Errno};
use crate::package::Target;

/// Why a program, which is not loaded, cannot be attached to a target.
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
        // Found by their types when they are loaded, or at the hook of the host.
        prog_type::TRACING | prog_type::LSM => Ok(()),
        _ => unloaded(prog, target),
    }
}

fn cgroup(prog: ProgRef<'_>, target: &Target) -> Result<()> {
    let path = target.cgroup.as_deref().unwrap_or_default();
    let place = format!("{} on cgroup {path:?}", prog.section_name());
    let failed = |e: Errno| attach_error(prog, &place, e, "");
    open_cgroup(path).map_err(|e| failed(Errno(e.raw_os_error().unwrap_or(libc::EINVAL))))?;
    // Groups of the second version alone have it.
    let is_new = Path::new(path).join("cgroup.controllers").exists();
    if is_new { Ok(()) } else { Err(failed(Errno(libc::EBADF))) }
}

/// A program at a tracepoint, or a probe in the kernel or in a file.
fn traced(prog: ProgRef<'_>, target: &Target, place: &str) -> Result<()> {
    let refused = |errno: i32| Err(attach_error(prog, place, Errno(errno), ""));
    let Some((hook, rest)) = place.split_once('/') else {
        let is_told = target.path.is_some() || target.func.is_some();
        return if is_told { unloaded(prog, target) } else { Err(no_target(prog)) };
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
            // A name without a slash is looked up by libbpf.
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

/// Attaches a program that is not loaded: what fails for want of it would have succeeded.
fn unloaded(prog: ProgRef<'_>, target: &Target) -> Result<()> {
    let log = Arc::new(Log::new(None, Level::Error));
    match attach(prog, std::slice::from_ref(target), &log) {
        Err(e) if e.errno == libc::EINVAL && messages::is_unloaded(&e.detail) => Ok(()),
        attached => attached.map(drop),
    }
}

/// Whether the kernel or a module has a raw tracepoint of that name; yes if it does not show its types.
fn has_tracepoint(name: &str) -> bool {
    static NAMES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let names = NAMES.get_or_init(tracepoints);
    names.is_empty() || names.iter().any(|known| known == name.as_bytes())
}

/// For each of them the types have a typedef.
fn tracepoints() -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    for file in fs::read_dir("/sys/kernel/btf").into_iter().flatten().flatten() {
        let types = fs::read(file.path()).unwrap_or_default();
        let found = types.split(|&byte| byte == 0).filter_map(|text| text.strip_prefix(b"btf_trace_"));
        names.extend(found.map(<[u8]>::to_vec));
    }
    names
}

/// Whether many functions can be probed at once; yes if the kernel does not show its functions.
fn has_fprobe() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let functions = fs::read("/proc/kallsyms").unwrap_or_default();
        functions.is_empty() || os::find(&functions, b" register_fprobe_ips").is_some()
    })
}
