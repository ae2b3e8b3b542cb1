//! Creates one link. Its errors name the program and the place where it was to be attached.

use std::sync::Arc;
use std::time::Duration;

use super::constants::prog_type;
use super::diagnose;
use super::sys::attach::Link;
use super::sys::object::ProgRef;
use crate::error::{Error, Hint, Result, Status};
use crate::log::{self, Level, Log};
use crate::os::{self, Errno};
use crate::package::{Interface, Target};

/// Creates one link. An error names the program and the place.
pub(super) fn create_link(
    prog: ProgRef<'_>,
    place: &str,
    log: &Arc<Log>,
    make: &dyn Fn() -> os::Result<Link>,
) -> Result<Vec<Link>> {
    // The descriptors that libbpf needs at a time. Without them libbpf would conclude that the kernel lacks a feature.
    const DESCRIPTORS: usize = 4;
    let (mut link, printed) = log::capture(log, || os::try_descriptors(DESCRIPTORS).and_then(|()| make()));
    if matches!(link, Err(Errno(libc::EEXIST)))
        && [prog_type::KPROBE, prog_type::TRACEPOINT].contains(&prog.kind())
    {
        link = retry(make);
        if link.is_ok() {
            let name = prog.name().to_string_lossy();
            let why = "a child of this process still held its last link";
            log.write(Level::Warn, &format!("program {name:?} ({place}): attached after a delay: {why}"));
        }
    }
    link.map(|link| vec![link]).map_err(|e| match e.0 {
        // A kprobe that names a function fails like this on a kernel without kprobes.
        libc::EOPNOTSUPP
            if place == prog.section_name() && !(place.starts_with('k') && place.contains('/')) =>
        {
            no_target(prog)
        }
        _ => diagnose::attach_error(prog, place, e, &printed),
    })
}

/// Retries for a while. A detached probe exists as long as a child of the host holds its descriptor, which is until the
/// exec of the child. Until then the same program cannot be attached again.
fn retry(make: &dyn Fn() -> os::Result<Link>) -> os::Result<Link> {
    let silent = Arc::new(Log::new(None, Level::Warn));
    let mut link = Err(Errno(libc::EEXIST));
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(5));
        link = log::capture(&silent, make).0;
        if !matches!(link, Err(Errno(libc::EEXIST))) {
            break;
        }
    }
    link
}

/// The error for a section without a target, such as `kprobe` alone, or for a type that attaches to a socket or map.
pub(super) fn no_target(prog: ProgRef<'_>) -> Error {
    let section = prog.section_name();
    let keys = match section.split(['/', '.']).next() {
        Some("sk_msg" | "sk_skb" | "sk_reuseport" | "socket") => {
            let text = "must be attached to a socket or map, which is not supported";
            return prog.about(Error::sys(Status::Unsupported, libc::EOPNOTSUPP, text), &section);
        }
        Some("kprobe" | "kretprobe" | "ksyscall" | "kretsyscall") => "\"func\"",
        Some("uprobe" | "uretprobe") => "\"path\" and \"func\"",
        Some("usdt") => "\"attach\": \"usdt/PATH:PROVIDER:NAME\"",
        _ => "\"attach\"",
    };
    let text = "neither its section nor the package specifies where to attach it";
    let error = Error::sys(Status::Unsupported, libc::EOPNOTSUPP, text);
    prog.about(error, &section).with_hint(Hint::Target(keys))
}

/// The error for a target without `keys`.
pub(super) fn lacks_keys(prog: ProgRef<'_>, keys: &'static str) -> Error {
    let error = Error::new(Status::Attach, format_args!("its target needs {keys}"));
    prog.about(error, &prog.section_name()).with_hint(Hint::Target(keys))
}

/// Returns the index of the target's interface, and the name of the place for messages.
pub(super) fn interface(prog: ProgRef<'_>, target: &Target) -> Result<(u32, String)> {
    // The first published packages attach to the loopback interface by default.
    let interface = target.interface.as_ref().unwrap_or(&Interface::Index(1));
    let (place, index) = match interface {
        Interface::Index(index) => (
            format!("{} on interface {index}", prog.section_name()),
            os::interface_name(*index).map(|_| *index),
        ),
        Interface::Name(name) => {
            (format!("{} on interface {name:?}", prog.section_name()), os::interface_index(name))
        }
    };
    let index = index.map_err(|e| diagnose::attach_error(prog, &place, e, ""))?;
    Ok((index, place))
}
