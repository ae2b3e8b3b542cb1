//! Opens the files of processes, which may belong to other users, for the reader process.
//!
//! The user of a process controls its files. Opening a FIFO, a device or a file with a lease must neither block nor have
//! effects, so the type of a file is checked before it is opened without blocking. Links are resolved within the root of the
//! process only.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat, openat2,
};

use super::protocol::Mapping;

/// Size limit of a file.
const MAX_FILE: i64 = 4 << 30;

/// File systems with files that the kernel generates: proc, sysfs, efivarfs (linux/magic.h).
const PSEUDO_FILE_SYSTEMS: [rustix::fs::FsWord; 3] = [PROC_SUPER_MAGIC, 0x6265_6572, 0xde5e_81e4];

/// A process. If its id is reused, operations fail.
pub struct Process {
    /// Its directory in /proc.
    folder: OwnedFd,
}

impl Process {
    /// Returns `None` if the process has ended.
    pub fn open(pid: u32) -> Option<Process> {
        let folder = openat(
            CWD,
            format!("/proc/{pid}"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        Some(Process { folder: folder.ok()? })
    }

    /// Opens the list of its mappings.
    pub fn maps(&self) -> Option<OwnedFd> {
        openat(&self.folder, "maps", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Opens the file of a mapping: by the mapping, so that it is the same file even if it was replaced, or else by name if
    /// the kernel does not allow that.
    pub fn mapped(&self, mapping: &Mapping) -> Option<OwnedFd> {
        let path = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
        match openat(&self.folder, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => plain(file),
            Err(_) => self.inside(&mapping.path),
        }
    }

    /// Opens the perf map of a process, which names the functions that it has compiled. It must belong to the user of the
    /// process or to root.
    pub fn perf_map(&self) -> Option<OwnedFd> {
        let status =
            std::fs::read_to_string(format!("/proc/self/fd/{}/status", self.folder.as_raw_fd())).ok()?;
        let numbers = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // The last id is that in its own namespace.
        let pid: u32 = numbers("NSpid:")?.split_whitespace().last()?.parse().ok()?;
        let user: u32 = numbers("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
        let file = self.inside(&format!("/tmp/perf-{pid}.map"))?;
        let owner = fstat(&file).ok()?.st_uid;
        (owner == user || owner == 0).then_some(file)
    }

    /// Opens a file by its name in the root of the process.
    fn inside(&self, path: &str) -> Option<OwnedFd> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&self.folder, "root", folder, Mode::empty()).ok()?;
        let (flags, inside) = (
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        plain(openat2(root, path, flags, Mode::empty(), inside).ok()?)
    }
}

/// Reopens a file for reading if it is a regular file. `path` was opened with O_PATH, which has no effect on the file.
fn plain(path: OwnedFd) -> Option<OwnedFd> {
    let stat = fstat(&path).ok()?;
    let is_plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    // Generated files are regular files too. A user could mount one over a file of the process to have it read with our
    // privileges; reading /proc/kmsg, for example, removes its content. Most of them have size 0.
    let is_generated = || fstatfs(&path).map_or(true, |about| PSEUDO_FILE_SYSTEMS.contains(&about.f_type));
    if !is_plain || stat.st_size == 0 || stat.st_size > MAX_FILE || is_generated() {
        return None;
    }
    reopen(path.as_fd())
}

/// Reopens a file for reading, without waiting for a lease.
fn reopen(path: BorrowedFd) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/self/fd/{}", path.as_raw_fd()), flags, Mode::empty()).ok()
}

/// Opens the names of the kernel's functions. The privileges at this time decide whether the file shows addresses.
pub fn kallsyms() -> Option<OwnedFd> {
    File::open("/proc/kallsyms").ok().map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &std::path::Path) -> OwnedFd {
        openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .expect("it is there")
    }

    #[test]
    fn only_regular_files_are_opened_without_blocking() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("plain"), "text").expect("a file");
        assert!(plain(place(&path("plain"))).is_some());
        rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        std::os::unix::fs::symlink(path("plain"), path("link")).expect("a link");
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("a socket");
        for name in ["fifo", "link", "socket"] {
            assert!(plain(place(&path(name))).is_none(), "{name}");
        }
        assert!(plain(place(folder.path())).is_none(), "a folder");
        assert!(plain(place("/dev/zero".as_ref())).is_none(), "a device");
        for made_up in ["/proc/kmsg", "/proc/version", "/sys/kernel/uevent_seqnum"] {
            assert!(plain(place(made_up.as_ref())).is_none(), "{made_up}");
        }
        File::create(path("large")).and_then(|file| file.set_len(MAX_FILE as u64 + 1)).expect("a large file");
        assert!(plain(place(&path("large"))).is_none());
    }

    #[test]
    fn links_are_resolved_in_the_root_of_the_process() {
        let process = Process::open(std::process::id()).expect("it runs");
        let own = std::env::current_exe().expect("a path");
        assert!(process.inside(own.to_str().expect("UTF-8")).is_some());
        assert!(process.inside("/proc/self/cwd/Cargo.toml").is_none(), "a link of the kernel's");
        assert!(process.inside("/nonexistent").is_none());
        assert!(process.inside("").is_none());
    }
}
