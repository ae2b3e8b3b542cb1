//! Turns a failure of libbpf or the kernel into an error that explains it. It checks the state of the kernel instead of guessing
//! from the errno alone.

use std::fmt;
use std::path::Path;

use super::constants::{ENOTSUPP, map_type};
use super::kernel_btf::{KERNEL_BTF, KernelBtf, kernel_has_btf};
use super::messages::{self, Missing, reason};
use super::requirements;
use super::sys::object::{MapRef, Object, ProgRef};
use crate::btf::Btf;
use crate::error::{Error, Status};
use crate::os::{self, Errno};

const OUT_OF_DESCRIPTORS: &str = "the process cannot open enough file descriptors (ulimit -n)";

/// The reason why an object could not be loaded.
pub struct LoadFailure {
    /// The error for the host.
    pub error: Error,
    /// The program that failed. If it is left out, the object may load.
    pub prog: Option<usize>,
    /// Whether the kernel lacks a function that a program calls. libbpf does not report which program.
    pub lacks_kfunc: bool,
}

/// Explains why libbpf did not open an object.
pub fn open_error(e: Errno, printed: &str) -> Error {
    let (status, text) = match e.0 {
        libc::ENOMEM => (Status::NoMem, "out of memory".into()),
        libc::EMFILE | libc::ENFILE => (Status::System, OUT_OF_DESCRIPTORS.into()),
        _ => {
            let meaning = e.to_string();
            let reason = messages::first(printed).unwrap_or(&meaning).trim_end_matches('.');
            (Status::Package, format!("object: libbpf cannot open it: {reason}"))
        }
    };
    Error::sys(status, e.0, text).with_detail(printed)
}

/// Explains why libbpf or the kernel did not load an object with these types, and names the program that failed.
pub fn load_error(
    e: Errno,
    printed: &str,
    object: &Object,
    btf: &Btf,
    btf_path: Option<&Path>,
    kernel_btf: &KernelBtf,
) -> LoadFailure {
    let errno = e.0;
    let index = failed_program(printed, object);
    let failed = index.map(|index| object.prog(index));
    let log = messages::verifier_log(printed);
    let verdict = log.and_then(messages::verdict);
    let lacks_btf = !kernel_has_btf() && messages::lacks_kernel_btf(printed);
    let error = if let Some(error) = missing(e, printed, object, btf, failed) {
        error
    } else if let (Some(prog), Some(verdict)) = (failed, verdict) {
        let error = Error::sys(Status::Verifier, errno, format_args!("rejected by the verifier: {verdict}"));
        prog.about(error, &prog.section_name())
    } else if errno == libc::EMFILE || errno == libc::ENFILE {
        Error::sys(Status::System, errno, OUT_OF_DESCRIPTORS)
    } else if lacks_btf {
        Error::sys(Status::Unsupported, errno, no_btf(kernel_btf))
    } else if messages::is_bad_btf_file(printed) {
        let path = btf_path.unwrap_or(Path::new(KERNEL_BTF)).to_string_lossy();
        Error::sys(Status::Inval, errno, "cannot be read as BTF").about_file(&path).at("btf_path")
    } else if errno == libc::EPERM {
        permission(failed, object, errno)
    } else if let Some(map) = messages::failed_map(printed) {
        let kind = object.maps().find(|raw| raw.name().to_bytes() == map.as_bytes()).map_or(0, MapRef::kind);
        map_refused(map, kind, e, printed)
    } else if let Some(prog) = failed {
        refused(prog, e)
    } else {
        Error::sys(load_status(errno), errno, format_args!("load failed: {}", reason(printed, e)))
    };
    let error = error.with_detail(log.unwrap_or(printed));
    // Leaving out a program does not help against a lack of descriptors or memory. If the kernel has no BTF, libbpf names
    // no program, but some programs need BTF.
    let prog = match errno {
        libc::EMFILE | libc::ENFILE | libc::ENOMEM => None,
        _ if index.is_none() && lacks_btf => object
            .progs()
            .position(|prog| prog.autoload() && requirements::needs_target(&prog.section_name())),
        _ => index,
    };
    LoadFailure { error, prog, lacks_kfunc: messages::lacks_function(printed) }
}

/// The error for something that a program or map needs and that does not exist: a function, variable or struct_ops type of
/// the kernel, a map or program of the object.
fn missing(
    e: Errno,
    printed: &str,
    object: &Object,
    btf: &Btf,
    failed: Option<ProgRef<'_>>,
) -> Option<Error> {
    let error = |text: fmt::Arguments<'_>| Error::sys(Status::Unsupported, e.0, text);
    let Some((what, name)) = messages::missing(printed) else {
        let (map, program) = messages::empty_slot(printed)?;
        let error = Error::sys(
            Status::Package,
            e.0,
            format_args!("it holds program {program:?}, which is not loaded"),
        );
        return Some(error.about_map(map));
    };
    Some(match what {
        Missing::Function => {
            let error = error(format_args!("this kernel has no function {name:?} (kfunc)"));
            match failed {
                Some(prog) => prog.about(error, &prog.section_name()),
                None => error,
            }
        }
        Missing::Variable => error(format_args!("this kernel has no variable {name:?} (ksym)")),
        Missing::Operations => {
            let name = name.strip_prefix("bpf_struct_ops_").unwrap_or(name);
            let mut maps = object.maps().filter(|map| map.kind() == map_type::STRUCT_OPS);
            let is_of_type =
                |map: &MapRef<'_>| btf.name(map.value_type()).is_some_and(|ty| ty.starts_with(name));
            let error = error(format_args!("this kernel has no operations {name:?} (struct_ops)"));
            match maps.find(is_of_type) {
                Some(map) => map.about(error),
                None => error,
            }
        }
        Missing::Member => {
            error(format_args!("this kernel has other members in these operations (struct_ops)"))
                .about_map(name)
        }
        Missing::Map => {
            Error::sys(Status::Package, e.0, "a program needs it, but it was not created").about_map(name)
        }
    })
}

/// Explains why a program could not be attached to `place`.
pub fn attach_error(prog: ProgRef<'_>, place: &str, e: Errno, printed: &str) -> Error {
    let is_tracepoint = place.starts_with("tp/") || place.starts_with("tracepoint/");
    let is_raw_tracepoint = place.starts_with("raw_tracepoint") || place.starts_with("raw_tp");
    let name = place.split_once('/').map_or(place, |(_, name)| name);
    let (status, why) = match (e.0, requirements::newer_for_hook(place)) {
        (libc::EPERM | libc::EACCES, _) => match requirements::missing_to_attach(prog) {
            Some(missing) => (Status::Perm, format!("needs {missing}")),
            None if is_tracepoint => (Status::Attach, "it reads beyond the record of the tracepoint".into()),
            None => (Status::Attach, format!("{e}; {}", reason(printed, e))),
        },
        (libc::ENOENT | libc::EOPNOTSUPP, _) if place.starts_with('k') && !requirements::has_kprobes() => {
            (Status::Unsupported, "this kernel is built without kprobes (CONFIG_KPROBES)".into())
        }
        (libc::ENOENT, _) if is_tracepoint && !requirements::has_tracefs() => {
            let how = "mount -t tracefs tracefs /sys/kernel/tracing";
            (Status::Attach, format!("tracefs is not mounted; mount it: {how}"))
        }
        (libc::ENOENT, _) if is_tracepoint || is_raw_tracepoint => {
            (Status::Attach, format!("this kernel has no tracepoint {name:?}"))
        }
        (libc::ENOENT, _) if place.starts_with('k') => {
            (Status::Unsupported, format!("this kernel has no function {name:?}"))
        }
        (libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP, _) if place.starts_with("perf event") => {
            (Status::Unsupported, "this machine has no such event".into())
        }
        // The kernel's error for a directory that is not a cgroup2.
        (libc::EBADF, _) => (
            Status::NotFound,
            "not a cgroup2 directory (mount | grep cgroup2 shows where it is mounted)".into(),
        ),
        (libc::ENODEV | libc::ENXIO, _) => (Status::NotFound, "no such network interface".into()),
        (libc::ENOENT | libc::ENOTDIR, _) if os::find(place.as_bytes(), b" on cgroup ").is_some() => {
            (Status::NotFound, e.to_string())
        }
        (libc::EMFILE | libc::ENFILE, _) => (Status::System, OUT_OF_DESCRIPTORS.into()),
        (libc::EINVAL, Some(newer)) => (Status::Unsupported, newer),
        (libc::EINVAL, _) if is_raw_tracepoint => {
            (Status::Attach, "it reads more arguments than the tracepoint has".into())
        }
        (libc::EINVAL, _) if place.starts_with("netkit") => (Status::Attach, "not a netkit device".into()),
        (libc::EOPNOTSUPP | ENOTSUPP, _) => (Status::Unsupported, unsupported(prog, printed, e)),
        // The file does not exist, or it lacks the function or probe.
        _ if place.starts_with('u') => match messages::missing_symbol(printed) {
            Some((path, name)) => (Status::NotFound, format!("{path} has no function {name:?}")),
            None => (Status::NotFound, reason(printed, e).into()),
        },
        _ => (Status::Attach, reason(printed, e).into()),
    };
    prog.about(Error::sys(status, e.0, why), place).with_detail(printed)
}

/// Explains what is missing for a hook that this kernel does not have.
fn unsupported(prog: ProgRef<'_>, printed: &str, e: Errno) -> String {
    let section = prog.section_name();
    if !requirements::is_recent_hook(&section) {
        return reason(printed, e).into();
    }
    requirements::newer_for_hook(&section).unwrap_or_else(|| {
        let is_multi = section.starts_with("kprobe.multi") || section.starts_with("kretprobe.multi");
        let option = if is_multi { "CONFIG_FPROBE" } else { "support for it" };
        format!("this kernel is built without {option}")
    })
}

/// Whether a program of `section` failed because its hook does not exist.
pub fn lacks_hook(e: &Error, section: &str) -> bool {
    matches!(e.errno(), Some(libc::ENOENT | libc::ESRCH))
        || e.status() == Status::Unsupported && requirements::is_recent_hook(section)
}

/// The index of the program that libbpf reports as failed.
fn failed_program(printed: &str, object: &Object) -> Option<usize> {
    let index = |name: &str| object.progs().position(|prog| prog.name().to_bytes() == name.as_bytes());
    messages::failed_programs(printed).find_map(index)
}

fn no_btf(looked_for: &KernelBtf) -> String {
    let others = match looked_for {
        KernelBtf::Others(kernel) => format!(", and the package has none for {kernel}"),
        _ => String::new(),
    };
    format!(
        "the kernel has no BTF ({KERNEL_BTF}, CONFIG_DEBUG_INFO_BTF){others}; set btf_path to a BTF file or a BTFHub directory"
    )
}

fn permission(failed: Option<ProgRef<'_>>, object: &Object, errno: i32) -> Error {
    let Some(prog) = failed else {
        // A map or libbpf's test program failed: the thread lacks some of the capabilities that all programs require.
        let why = match requirements::missing_for_all(object) {
            Some(missing) => format!("needs {missing}"),
            None => "is not permitted (lockdown, seccomp or an LSM)".into(),
        };
        return Error::sys(Status::Perm, errno, format_args!("loading {why}"));
    };
    let section = prog.section_name();
    let error = match requirements::missing_for(prog) {
        Some(missing) => Error::sys(Status::Perm, errno, format_args!("needs {missing}")),
        None => {
            let kind = section.split(['/', '.']).next().unwrap_or_default();
            let why = "despite sufficient privileges: it is built without them or locked down";
            Error::sys(Status::Unsupported, errno, format_args!("this kernel refuses {kind} programs {why}"))
        }
    };
    prog.about(error, &section)
}

/// Explains why a map could not be created or pinned.
fn map_refused(name: &str, kind: u32, e: Errno, printed: &str) -> Error {
    let error = |status, text: &dyn fmt::Display| Error::sys(status, e.0, text).about_map(name);
    if let Some((path, is_unmounted)) = messages::failed_pin(printed, name) {
        let why = if is_unmounted { "no BPF file system is mounted there" } else { &e.to_string() };
        return error(Status::System, &format_args!("cannot be pinned at {path}: {why}"));
    }
    if let Some(path) = messages::other_pin(printed) {
        return error(Status::System, &format_args!("another kind of map is pinned at {path}"));
    }
    match e.0 {
        libc::ENOMEM | libc::E2BIG => error(Status::NoMem, &"not enough memory"),
        libc::EINVAL => match requirements::newer_for_map(kind) {
            Some(why) => error(Status::Unsupported, &why),
            None => error(Status::Package, &"the kernel refuses its type, sizes, flags or number of entries"),
        },
        errno => error(load_status(errno), &e),
    }
}

/// Explains why the kernel or libbpf refused a program before the verifier ran.
fn refused(prog: ProgRef<'_>, e: Errno) -> Error {
    let section = prog.section_name();
    let error = |status, text: &dyn fmt::Display| prog.about(Error::sys(status, e.0, text), &section);
    match e.0 {
        libc::ENOENT | libc::ESRCH if requirements::needs_target(&section) => {
            error(Status::Unsupported, &format_args!("this kernel has no target for {section}"))
        }
        libc::EINVAL if section.starts_with("freplace") => {
            error(Status::Unsupported, &"replaces a function of another program, which is not supported")
        }
        libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP => {
            let why = requirements::newer_for_hook(&section).map_or(String::new(), |why| format!(": {why}"));
            error(
                Status::Unsupported,
                &format_args!("this kernel does not support programs of this section{why}"),
            )
        }
        errno => error(load_status(errno), &format_args!("could not be loaded: {e}")),
    }
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
