//! After a failure: why did the kernel say no? Asks the kernel instead of guessing from an errno alone.

use std::fmt;
use std::path::Path;

use super::map::{ENOTSUPP, kind};
use super::object::{KernelBtf, LoadFailure, OpenConfig};
use super::sys::object::{MapRef, Object, ProgRef};
use crate::btf::Btf;
use crate::error::{Error, Status};
use crate::os::{self, Errno};

/// Where the kernel has its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
const OUT_OF_DESCRIPTORS: &str =
    "the process may not open as many file descriptors as this takes (ulimit -n)";

/// A capability of capabilities(7): its bit and its name.
type Capability = (u32, &'static str);
const CAP_NET_ADMIN: Capability = (12, "CAP_NET_ADMIN");
const CAP_SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
const CAP_PERFMON: Capability = (38, "CAP_PERFMON");
const CAP_BPF: Capability = (39, "CAP_BPF");

/// Whether the running kernel carries its BTF.
pub fn kernel_has_btf() -> bool {
    Path::new(KERNEL_BTF).exists()
}

/// Why libbpf would not open an object.
pub fn open_error(e: Errno, printed: &str) -> Error {
    let first = printed.lines().next().map(without_prefix);
    let (status, text) = match e.0 {
        libc::ENOMEM => (Status::NoMem, "out of memory".into()),
        libc::EMFILE | libc::ENFILE => (Status::System, OUT_OF_DESCRIPTORS.into()),
        _ => {
            let reason = first.unwrap_or(&e.to_string()).trim_end_matches('.').to_owned();
            (Status::Package, format!("object: libbpf cannot open it: {reason}"))
        }
    };
    Error::sys(status, e.0, text).with_detail(printed)
}

/// Why the kernel, or libbpf before it, would not load an object with these types, and the program at fault.
pub fn load_error(e: Errno, printed: &str, object: &Object, btf: &Btf, config: &OpenConfig) -> LoadFailure {
    let errno = e.0;
    let index = failed_program(printed, object);
    let failed = index.map(|index| object.prog(index));
    let log = between(printed, "-- BEGIN PROG LOAD LOG --", "-- END PROG LOAD LOG --");
    let verdict = log.and_then(verdict);
    let error = if let Some(error) = lacking(e, printed, object, btf, failed) {
        error
    } else if let (Some(prog), Some(verdict)) = (failed, verdict) {
        let text = format_args!("rejected by the verifier: {verdict}");
        prog.about(Error::sys(Status::Verifier, errno, text), &section(prog))
    } else if errno == libc::EMFILE || errno == libc::ENFILE {
        Error::sys(Status::System, errno, OUT_OF_DESCRIPTORS)
    } else if missing_btf(printed) {
        Error::sys(Status::Unsupported, errno, no_btf(&config.kernel_btf))
    } else if has(printed, "failed to parse target BTF") {
        let path = config.btf_path.as_deref().unwrap_or(Path::new(KERNEL_BTF)).to_string_lossy();
        Error::sys(Status::Inval, errno, "cannot be read as BTF").about_file(&path).at("btf_path")
    } else if errno == libc::EPERM {
        permission(failed, object, errno)
    } else if let Some(map) = between(printed, "map '", "': failed to create") {
        // Lines of other maps may stand before it.
        let last = map.rfind('\'').map_or(map, |quote| &map[quote + 1..]);
        let kind = object.maps().find(|map| map.name().to_bytes() == last.as_bytes()).map_or(0, MapRef::kind);
        map_refused(last, kind, e, printed)
    } else if let Some(prog) = failed {
        refused(prog, e)
    } else {
        Error::sys(load_status(errno), errno, format_args!("load failed: {}", reason(printed, e)))
    };
    let error = error.with_detail(log.unwrap_or(printed));
    // Without a program the process is not less short of descriptors or memory. That the kernel has no BTF, libbpf says
    // of none, but some programs need it.
    let prog = match errno {
        libc::EMFILE | libc::ENFILE | libc::ENOMEM => None,
        _ if index.is_none() && missing_btf(printed) => {
            object.progs().position(|prog| prog.autoload() && prog_needs_target(&section(prog)))
        }
        _ => index,
    };
    LoadFailure { error, prog, lacks_kfunc: has(printed, "extern (func ksym) '") }
}

/// What a program or map needs that is not there: a function or variable of the kernel, a type of operations, a map or
/// program of the object that could not be made.
fn lacking(
    e: Errno,
    printed: &str,
    object: &Object,
    btf: &Btf,
    failed: Option<ProgRef<'_>>,
) -> Option<Error> {
    let quoted = |before: &str| between(printed, before, "'");
    let error = |text: fmt::Arguments<'_>| Error::sys(Status::Unsupported, e.0, text);
    let kfunc = quoted("\nkfunc '").or_else(|| quoted("extern (func ksym) '"));
    if let Some(name) = kfunc {
        let error = error(format_args!("this kernel has no function {name:?} for programs to call (kfunc)"));
        return Some(match failed {
            Some(prog) => prog.about(error, &section(prog)),
            None => error,
        });
    }
    if let Some(name) = quoted("extern (var ksym) '") {
        return Some(error(format_args!("this kernel has no variable {name:?} (ksym)")));
    }
    if let Some(name) = between(printed, "struct_ops init_kern: struct ", " ") {
        let name = name.strip_prefix("bpf_struct_ops_").unwrap_or(name);
        let mut maps = object.maps().filter(|map| map.kind() == kind::STRUCT_OPS);
        let of_type = |map: &MapRef<'_>| btf.name(map.value_type()).is_some_and(|ty| ty.starts_with(name));
        let error = error(format_args!("this kernel has no operations {name:?} (struct_ops)"));
        return Some(match maps.find(of_type) {
            Some(map) => map.about(error),
            None => error,
        });
    }
    if let Some(name) = between(printed, "struct_ops init_kern ", ":") {
        return Some(error(format_args!("this kernel's operations are others (struct_ops)")).about_map(name));
    }
    if let Some(name) = quoted("\nBPF map '") {
        return Some(Error::sys(Status::Package, e.0, "a program needs it").about_map(name));
    }
    let program = between(printed, "failed to initialize slot [", "'").and(quoted("] to prog '"))?;
    let map = quoted("map '").unwrap_or_default();
    let text = format_args!("it holds program {program:?}, which is not loaded");
    Some(Error::sys(Status::Package, e.0, text).about_map(map))
}

/// Why a program could not be attached to `place`.
pub fn attach_error(prog: ProgRef<'_>, place: &str, e: Errno, printed: &str) -> Error {
    let errno = e.0;
    let (status, why) = match errno {
        libc::EPERM | libc::EACCES => match missing_capability(&needs(prog)) {
            Some(missing) => (Status::Perm, format!("needs {missing}")),
            None => (Status::Attach, format!("{e}; {}", reason(printed, e))),
        },
        libc::ENOENT | libc::EOPNOTSUPP if place.starts_with("k") && !has_kprobes() => {
            (Status::Unsupported, "this kernel is built without kprobes (CONFIG_KPROBES)".into())
        }
        libc::ENOENT if is_tracepoint(place) && !has_tracefs() => {
            let how = "mount -t tracefs tracefs /sys/kernel/tracing";
            (Status::Attach, format!("tracefs is not mounted; mount it: {how}"))
        }
        libc::ENOENT
            if is_tracepoint(place) || place.starts_with("raw_tracepoint") || place.starts_with("raw_tp") =>
        {
            (Status::Attach, format!("this kernel has no tracepoint {:?}", after_kind(place)))
        }
        libc::ENOENT if place.starts_with('k') => {
            (Status::Unsupported, format!("this kernel has no function {:?}", after_kind(place)))
        }
        libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP if place.starts_with("perf event") => {
            (Status::Unsupported, "this machine has no such event".into())
        }
        // What the kernel says of a folder that is no group of the second version.
        libc::EBADF => {
            (Status::NotFound, "not a folder of cgroup2 (mount | grep cgroup2 shows where it is)".into())
        }
        libc::ENODEV | libc::ENXIO => (Status::NotFound, "no such network interface".into()),
        libc::ENOENT | libc::ENOTDIR if has(place, " on cgroup ") => (Status::NotFound, e.to_string()),
        libc::EMFILE | libc::ENFILE => (Status::System, OUT_OF_DESCRIPTORS.into()),
        libc::EINVAL if too_old(hook_since(place)).is_some() => {
            (Status::Unsupported, too_old(hook_since(place)).unwrap_or_default())
        }
        libc::EINVAL if place.starts_with("netkit") => (Status::Attach, "not a netkit device".into()),
        libc::EOPNOTSUPP | ENOTSUPP => (Status::Unsupported, unsupported(prog, printed, e)),
        // A file, or a function or probe in it.
        _ if place.starts_with('u') => {
            (Status::NotFound, missing_symbol(printed).unwrap_or_else(|| reason(printed, e)))
        }
        _ => (Status::Attach, reason(printed, e)),
    };
    prog.about(Error::sys(status, errno, why), place).with_detail(printed)
}

/// The function that a file has not. libbpf has two reports of that: one says that it is 0 in the file's table.
fn missing_symbol(printed: &str) -> Option<String> {
    let name = between(printed, "elf: '", "' is 0 in symtab")?;
    let path = between(printed, "' is 0 in symtab for '", "'")?;
    Some(format!("{path} has no function {name:?}"))
}

/// Whether a program of `section` failed because its hook is not there.
pub fn lacks_hook(e: &Error, section: &str) -> bool {
    matches!(e.errno, libc::ENOENT | libc::ESRCH)
        || e.status == Status::Unsupported && hook_since(section).is_some()
}

/// Whether this kernel is older than hooks like that at `place`.
pub fn is_too_old(place: &str) -> bool {
    too_old(hook_since(place)).is_some()
}

/// What follows the kind in a place that is written like a section.
fn after_kind(place: &str) -> &str {
    place.split_once('/').map_or(place, |(_, rest)| rest)
}

fn section(prog: ProgRef<'_>) -> String {
    prog.section().to_string_lossy().into_owned()
}

/// The program that libbpf reports as the one that failed.
fn failed_program(printed: &str, object: &Object) -> Option<usize> {
    /// Lines that may be its report; a log can quote many.
    const MOST: usize = 16;
    let failures = ["failed", "BPF program load", "missing BPF prog type"];
    let is_report = |line: &&str| has(line, "prog '") && failures.iter().any(|word| has(line, word));
    let named = printed.lines().filter(is_report).take(MOST);
    named
        .filter_map(|line| between(line, "prog '", "':"))
        .find_map(|name| object.progs().position(|prog| prog.name().to_bytes() == name.as_bytes()))
}

fn find(text: &str, part: &str) -> Option<usize> {
    os::find(text.as_bytes(), part.as_bytes())
}

fn has(text: &str, part: &str) -> bool {
    find(text, part).is_some()
}

/// What stands behind the first `begin`, up to `end` if that follows.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let rest = &text[find(text, begin)? + begin.len()..];
    Some(rest[..find(rest, end).unwrap_or(rest.len())].trim())
}

/// The line of a log that says what was wrong: the last one before the statistics that shows no state. A log without
/// one means that the verifier was not reached.
fn verdict(log: &str) -> Option<&str> {
    let statistics = ["processed ", "verification time", "stack depth", "arg#", "func#"];
    let counts = |line: &str| statistics.iter().any(|head| line.starts_with(head));
    let speaks = |line: &&str| !line.is_empty() && !counts(line) && !shows_state(line);
    log.lines().rev().map(str::trim).find(speaks).map(|line| line.trim_end_matches('.'))
}

/// Whether a line shows what the registers hold: `cur state: R0=1 R10=fp0`, `from 3 to 5: R1_w=ctx()`.
fn shows_state(line: &str) -> bool {
    let holds = |word: &str| {
        let rest = word.strip_prefix('R').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        rest.is_some_and(|rest| rest.starts_with(['=', '_']))
    };
    line.starts_with("cur state:") || line.starts_with("old state:") || line.split(' ').any(holds)
}

fn missing_btf(printed: &str) -> bool {
    !kernel_has_btf() && (has(printed, "kernel BTF") || has(printed, "vmlinux BTF"))
}

fn no_btf(looked_for: &KernelBtf) -> String {
    let others = match looked_for {
        KernelBtf::Others(kernel) => format!(", and the package brings none for {kernel}"),
        _ => String::new(),
    };
    format!(
        "the kernel has no BTF ({KERNEL_BTF}, CONFIG_DEBUG_INFO_BTF){others}; give a BTF file or a BTFHub folder as btf_path"
    )
}

fn permission(failed: Option<ProgRef<'_>>, object: &Object, errno: i32) -> Error {
    let Some(prog) = failed else {
        // Not even a map, or the simplest program: what all programs together need is missing, at least in part.
        let mut needed: Vec<_> = object.progs().filter(|prog| prog.autoload()).flat_map(needs).collect();
        needed.extend([CAP_BPF]);
        needed.sort_unstable_by_key(|(bit, _)| std::cmp::Reverse(*bit));
        needed.dedup();
        let why = match missing_capability(&needed) {
            Some(missing) => format!("needs {missing}"),
            None => "is not permitted (lockdown, seccomp or an LSM)".into(),
        };
        return Error::sys(Status::Perm, errno, format_args!("loading {why}"));
    };
    let error = match missing_capability(&needs(prog)) {
        Some(missing) => Error::sys(Status::Perm, errno, format_args!("needs {missing}")),
        None => {
            let section = section(prog);
            let kind = section.split(['/', '.']).next().unwrap_or_default();
            let why = "although privileges suffice: it is built without them, or locked down";
            Error::sys(Status::Unsupported, errno, format_args!("this kernel refuses {kind} programs {why}"))
        }
    };
    prog.about(error, &section(prog))
}

/// A map could not be made, or not be shared under its pin path.
fn map_refused(name: &str, kind: u32, e: Errno, printed: &str) -> Error {
    let error = |status, text: &dyn fmt::Display| Error::sys(status, e.0, text).about_map(name);
    let line = |words: &str| printed.lines().find(|line| has(line, words));
    if let Some(path) = between(printed, &format!("map '{name}': failed to auto-pin at '"), "'") {
        let why =
            if line("is not on BPF FS").is_some() { "there is no BPF file system" } else { &e.to_string() };
        return error(Status::System, &format_args!("cannot be pinned at {path}: {why}"));
    }
    if let Some(path) = between(printed, "couldn't reuse pinned map at '", "'") {
        return error(Status::System, &format_args!("another kind of map is pinned at {path}"));
    }
    match e.0 {
        libc::ENOMEM | libc::E2BIG => error(Status::NoMem, &"there is not enough memory for it"),
        libc::EINVAL => match too_old(map_since(kind)) {
            Some(why) => error(Status::Unsupported, &why),
            None => error(Status::Package, &"the kernel refuses its kind, sizes, flags or number of entries"),
        },
        errno => error(load_status(errno), &e),
    }
}

/// The kernel or libbpf refused a program before the verifier looked at it.
fn refused(prog: ProgRef<'_>, e: Errno) -> Error {
    let section = section(prog);
    let error = |status, text: &dyn fmt::Display| prog.about(Error::sys(status, e.0, text), &section);
    match e.0 {
        libc::ENOENT | libc::ESRCH if prog_needs_target(&section) => {
            error(Status::Unsupported, &format_args!("this kernel has no target for {section}"))
        }
        libc::EINVAL if section.starts_with("freplace") => {
            error(Status::Unsupported, &"replaces a function of another program, which cannot be named here")
        }
        libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP => {
            let why = too_old(hook_since(&section)).map_or(String::new(), |why| format!(": {why}"));
            error(
                Status::Unsupported,
                &format_args!("this kernel does not know programs of this section{why}"),
            )
        }
        errno => error(load_status(errno), &format_args!("could not be loaded: {e}")),
    }
}

/// A version of Linux.
type Version = (u32, u32);

/// Since when there are hooks of a section, if that is later than what the library asks for.
fn hook_since(section: &str) -> Option<Version> {
    const SINCE: [(&str, Version); 10] = [
        ("kprobe.multi", (5, 18)),
        ("kretprobe.multi", (5, 18)),
        ("kprobe.session", (6, 10)),
        ("uprobe.multi", (6, 6)),
        ("uretprobe.multi", (6, 6)),
        ("tcx", (6, 6)),
        ("tc/", (6, 6)), // tc is older
        ("netkit", (6, 7)),
        ("syscall", (5, 14)),
        ("sk_lookup", (5, 9)),
    ];
    if section.ends_with("_unix") {
        return Some((6, 7)); // of cgroups
    }
    SINCE.iter().find(|(hook, _)| section.starts_with(hook)).map(|(_, since)| *since)
}

/// The same for kinds of maps.
fn map_since(kind: u32) -> Option<Version> {
    const FIRST: u32 = 27; // BPF_MAP_TYPE_RINGBUF
    const SINCE: [Version; 7] = [(5, 8), (5, 10), (5, 11), (5, 16), (6, 1), (6, 2), (6, 9)];
    SINCE.get(kind.checked_sub(FIRST)? as usize).copied()
}

/// Says so if this kernel is older. Asked only after it said no: distributions bring things to older kernels.
fn too_old(since: Option<Version>) -> Option<String> {
    let (release, _) = os::kernel();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let here = (numbers.next()?, numbers.next()?);
    let (major, minor) = since.filter(|since| here < *since)?;
    Some(format!("Linux {major}.{minor} or newer has that, and this is {}.{}", here.0, here.1))
}

fn prog_needs_target(section: &str) -> bool {
    ["fentry", "fexit", "fmod_ret", "tp_btf", "lsm", "iter", "freplace"]
        .iter()
        .any(|kind| section.starts_with(kind))
}

fn load_status(errno: i32) -> Status {
    match errno {
        libc::EPERM | libc::EACCES => Status::Perm,
        libc::ENOMEM => Status::NoMem,
        libc::ENOTSUP | ENOTSUPP => Status::Unsupported,
        libc::EINVAL | libc::ENOENT => Status::Package,
        _ => Status::System,
    }
}

/// A line of libbpf's without its name in front.
fn without_prefix(line: &str) -> &str {
    line.strip_prefix("libbpf: ").unwrap_or(line)
}

/// The last thing libbpf said, else what the errno means.
fn reason(printed: &str, e: Errno) -> String {
    let last = printed.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(|| e.to_string(), |line| without_prefix(line).trim().to_owned())
}

/// What is missing for a hook that this kernel does not have.
fn unsupported(prog: ProgRef<'_>, printed: &str, e: Errno) -> String {
    let section = section(prog);
    let is_multi = section.starts_with("kprobe.multi") || section.starts_with("kretprobe.multi");
    match hook_since(&section) {
        Some(since) => too_old(Some(since)).unwrap_or_else(|| match is_multi {
            true => "this kernel is built without CONFIG_FPROBE".into(),
            false => "this kernel is built without it".into(),
        }),
        None => reason(printed, e),
    }
}

fn is_tracepoint(place: &str) -> bool {
    place.starts_with("tp/") || place.starts_with("tracepoint/")
}

fn has_tracefs() -> bool {
    tracepoints().is_some()
}

/// The folder that has one for each tracepoint, `CATEGORY/NAME`, where tracefs is mounted.
pub fn tracepoints() -> Option<&'static Path> {
    let folders = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
    folders.into_iter().map(Path::new).find(|path| path.exists())
}

/// Whether the kernel has kprobes.
pub fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

fn needs(prog: ProgRef<'_>) -> Vec<Capability> {
    // enum bpf_prog_type of linux/bpf.h
    const TRACING: [u32; 7] = [2, 5, 7, 17, 24, 26, 29];
    const NETWORK: [u32; 12] = [3, 4, 6, 8, 10, 11, 12, 13, 14, 15, 18, 30];
    let more = match prog.kind() {
        kind if TRACING.contains(&kind) => Some(CAP_PERFMON),
        kind if NETWORK.contains(&kind) => Some(CAP_NET_ADMIN),
        _ => None,
    };
    [CAP_BPF].into_iter().chain(more).collect()
}

/// Names those of `needed` that the thread lacks; CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON. In a user namespace
/// below the initial one it has none that the kernel would ask for.
fn missing_capability(needed: &[Capability]) -> Option<String> {
    let (held, how) = match os::in_initial_user_namespace() {
        true => (os::capabilities(), "(root has it)"),
        false => (0, "in the initial user namespace, and this process is in another one"),
    };
    let has = |(bit, _): Capability| held & (1 << bit) != 0;
    let replaceable = |capability| capability != CAP_NET_ADMIN && has(CAP_SYS_ADMIN);
    let missing: Vec<_> =
        needed.iter().filter(|&&c| !has(c) && !replaceable(c)).map(|c| c.1.to_owned()).collect();
    (!missing.is_empty()).then(|| format!("{} {how}", missing.join(" and ")))
}
