//! A loaded version of a package in a directory of a BPF file system, where it survives its process.
//!
//! The directory has a file for each descriptor of [`Exported`], with its line of the description as the name. It has
//! another name while it is filled or removed, so a directory with its own name is complete.

use std::ffi::{CString, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use super::exported::Exported;
use super::sys::object::prog_facts;
use super::sys::pin::{number_at, open_pin, pin, program_of};
use crate::error::{Error, Result, Status};
use crate::os::{self, Errno};

/// The end of the name of a directory that is not complete.
const INCOMPLETE: &str = "~";
/// The symbolic link with the first line of the description.
const OBJECT: &str = "object";

/// The directory of a version that this process runs. It is removed on drop, but not in a child of fork.
pub struct Pins {
    path: PathBuf,
    owner: u32,
}

impl Pins {
    /// Takes over a directory.
    pub fn of(path: &Path) -> Pins {
        Pins { path: path.to_owned(), owner: std::process::id() }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // A failure leaves the programs attached, which the host sees in the directory.
            let _ = remove_pins(&self.path);
        }
    }
}

/// Which programs the dispatchers or links of a version run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Those of this version.
    Running,
    /// None, and those of this version after the next switch.
    Suspended,
    /// Those of another version.
    Waiting,
}

impl Exported {
    /// Opens the descriptors of a version that [`Vm::pin`](crate::Vm::pin) has pinned. Perf events cannot be pinned, so
    /// [`Vm::import`](crate::Vm::import) accepts the result only for a package without perf buffers.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`] if there is no such directory, [`Status::Perm`] if it belongs to another user, [`Status::Inval`] if
    /// it contains something else.
    ///
    /// ```
    /// use eunomia::Status;
    /// use eunomia::vm::Exported;
    ///
    /// let error = Exported::from_pins("/sys/fs/bpf/no-such-directory").unwrap_err();
    /// assert_eq!(error.status(), Status::NotFound);
    /// ```
    pub fn from_pins(dir: impl AsRef<Path>) -> Result<Exported> {
        let dir = dir.as_ref();
        let _low = os::take_low_numbers().map_err(|e| failed("open pins", dir, e))?;
        let object = fs::read_link(dir.join(OBJECT)).map_err(|e| failed("open pins", dir, e.into()))?;
        let mut items = Vec::new();
        for name in names(dir).map_err(|e| failed("open pins", dir, e))? {
            if name == OBJECT {
                continue;
            }
            let path = dir.join(&name);
            let (index, line) = name.to_str().and_then(decode).ok_or_else(|| {
                Error::new(Status::Inval, "not a pin of this library").about_file(&path.to_string_lossy())
            })?;
            let opened = c_path(&path).and_then(|path| open_pin(&path));
            items.push((index, line, opened.map_err(|e| failed("open the pin", &path, e))?));
        }
        items.sort_unstable_by_key(|(index, ..)| *index);
        let items = items.into_iter().map(|(_, line, fd)| (line, fd)).collect();
        Ok(Exported { object: object.to_string_lossy().into_owned(), items })
    }

    /// Returns whether this version runs, and not another one. The kernel knows: the number that all dispatchers read, or
    /// the program of the only link. While programs are [suspended](crate::Vm::suspend), no version runs.
    ///
    /// # Errors
    ///
    /// [`Status::System`] if the kernel refuses.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.state()? == State::Running)
    }

    pub(super) fn state(&self) -> Result<State> {
        self.find_state().map_err(|e| Error::sys(Status::System, e.0, format_args!("running version: {e}")))
    }

    fn find_state(&self) -> os::Result<State> {
        let of = |role: &'static str| {
            self.items.iter().filter_map(move |(line, fd)| {
                let (found, name) = line.split_once(' ').unwrap_or((line, ""));
                (found == role).then_some((name, fd.as_raw_fd()))
            })
        };
        let own = |name: &str| {
            let found = of("program").find(|(program, _)| *program == name);
            found.map_or(Ok(0), |(_, fd): (_, RawFd)| prog_facts(&fd).map(|facts| facts.id))
        };
        let generation = of("generation").next().filter(|_| of("slots").next().is_some());
        let Some((_, generation)) = generation else {
            for (name, fd) in of("link") {
                if program_of(fd)? != own(name)? {
                    return Ok(State::Waiting);
                }
            }
            return Ok(State::Running);
        };
        let current = number_at(generation, 0)?.unwrap_or(0);
        let mut state = State::Waiting;
        for (name, fd) in of("slots") {
            let own = Some(own(name)?);
            match number_at(fd, current)? {
                program if program == own => return Ok(State::Running),
                Some(_) => return Ok(State::Waiting),
                None if number_at(fd, 1 - current.min(1))? == own => state = State::Suspended,
                None => {}
            }
        }
        Ok(state)
    }
}

/// Pins descriptors in the new directory `dir`.
pub(super) fn pin_all(exported: &Exported, dir: &Path) -> Result<Pins> {
    if dir.symlink_metadata().is_ok() {
        return Err(failed("pin", dir, Errno(libc::EEXIST)));
    }
    let draft = draft(dir);
    let filled = clear(&draft).and_then(|()| {
        DirBuilder::new().mode(0o700).create(&draft)?;
        symlink(&exported.object, draft.join(OBJECT))?;
        for (index, (line, fd)) in exported.items.iter().enumerate() {
            pin(fd.as_raw_fd(), &c_path(&draft.join(encode(index, line)))?)?;
        }
        Ok(fs::rename(&draft, dir)?)
    });
    filled.map(|()| Pins::of(dir)).map_err(|e| {
        // The error of the pin is reported.
        let _ = clear(&draft);
        failed("pin", dir, e)
    })
}

/// Removes the pins of a version. Its programs are detached, unless a process or another version has them. It is no error if
/// there is no such directory.
///
/// # Errors
///
/// [`Status::Perm`] or [`Status::System`] if the directory cannot be removed.
///
/// ```
/// # fn main() -> eunomia::Result<()> {
/// eunomia::vm::remove_pins("/sys/fs/bpf/no-such-directory")?;
/// # Ok(())
/// # }
/// ```
pub fn remove_pins(dir: impl AsRef<Path>) -> Result<()> {
    let dir = dir.as_ref();
    let draft = draft(dir);
    let removed = clear(&draft).and_then(|()| match fs::rename(dir, &draft) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.map_err(Errno::from),
    });
    removed.and_then(|()| clear(&draft)).map_err(|e| failed("remove pins", dir, e))
}

/// Finds the version that runs, among those that are pinned in directories of `parent`, and removes the other ones: a process that
/// is killed during a replace leaves two, and sometimes an incomplete one. Returns its directory, for
/// [`Vm::recover`](crate::Vm::recover); `None` if none runs.
///
/// Use `parent` for the versions of one package only.
///
/// # Errors
///
/// Those of [`Exported::from_pins`], [`Exported::is_running`] and [`remove_pins`]. Nothing that may run is removed then.
///
/// ```
/// # fn main() -> eunomia::Result<()> {
/// assert!(eunomia::vm::running_pins("/sys/fs/bpf/no-such-directory")?.is_none());
/// # Ok(())
/// # }
/// ```
pub fn running_pins(parent: impl AsRef<Path>) -> Result<Option<PathBuf>> {
    let parent = parent.as_ref();
    let names = match names(parent) {
        Err(Errno(libc::ENOENT)) => return Ok(None),
        names => names.map_err(|e| failed("open pins", parent, e))?,
    };
    let (mut running, mut suspended, mut others) = (None, None, Vec::new());
    for name in names {
        let path = parent.join(&name);
        let state = match name.to_string_lossy().ends_with(INCOMPLETE) {
            true => State::Waiting,
            false => Exported::from_pins(&path)?.state()?,
        };
        match state {
            State::Running => others.extend(running.replace(path)),
            State::Suspended => others.extend(suspended.replace(path)),
            State::Waiting => others.push(path),
        }
    }
    if running.is_some() {
        others.extend(suspended.take());
    }
    others.iter().try_for_each(remove_pins)?;
    Ok(running.or(suspended))
}

/// The name of a directory while it is not complete.
fn draft(dir: &Path) -> PathBuf {
    let mut name = OsString::from(dir);
    name.push(INCOMPLETE);
    name.into()
}

/// Removes a directory with its pins, if there is one.
fn clear(dir: &Path) -> os::Result<()> {
    let names = match names(dir) {
        Err(Errno(libc::ENOENT)) => return Ok(()),
        names => names?,
    };
    for name in names {
        fs::remove_file(dir.join(name))?;
    }
    Ok(fs::remove_dir(dir)?)
}

/// The names in a directory.
fn names(dir: &Path) -> os::Result<Vec<OsString>> {
    Ok(fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?)
}

/// The name of the file of a descriptor. A BPF file system reserves names with a dot.
fn encode(index: usize, line: &str) -> String {
    let mut name = format!("{index} ");
    for byte in line.bytes() {
        match byte {
            b' ' | b'_' | b'-' => name.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            byte => name += &format!("%{byte:02x}"),
        }
    }
    name
}

/// The index and the line of a descriptor.
fn decode(name: &str) -> Option<(usize, String)> {
    let (index, mut rest) = name.split_once(' ')?;
    let mut line = Vec::new();
    while let Some((before, after)) = rest.split_once('%') {
        line.extend_from_slice(before.as_bytes());
        line.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    line.extend_from_slice(rest.as_bytes());
    Some((index.parse().ok()?, String::from_utf8(line).ok()?))
}

fn c_path(path: &Path) -> os::Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
}

#[cold]
fn failed(what: &str, path: &Path, e: Errno) -> Error {
    let (status, why) = match e.0 {
        libc::ENOENT => (Status::NotFound, ""),
        libc::EEXIST => (Status::Inval, "; choose a new directory"),
        libc::EPERM => (
            Status::Perm,
            "; the directory must be in a BPF file system, such as /sys/fs/bpf, and have no dot in its name",
        ),
        libc::EACCES => (Status::Perm, ""),
        _ => (Status::System, ""),
    };
    Error::sys(status, e.0, format_args!("{what}: {e}{why}")).about_file(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn names_of_files_have_the_lines_of_descriptors() {
        for line in ["map a.rodata", "link on_exec", "generation", "map x/%2e é"] {
            let name = encode(12, line);
            assert!(!name.contains(['.', '/']), "{name}");
            assert_eq!(decode(&name), Some((12, line.to_owned())));
        }
        for name in ["", "object", "x map a", "1 map%", "1 map%2", "1 map%zz", "1 map%ff"] {
            assert_eq!(decode(name), None, "{name}");
        }
    }
}
