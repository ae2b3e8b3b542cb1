//! Opens the files of other people's processes, for somebody else to read.
//!
//! Whoever runs a process decides what its files are. A FIFO, a lease or a device must not hold up or do anything, so a file is
//! looked at before it is opened, and opened without waiting; links are followed inside of the process's own root only.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat, openat2,
};

use super::protocol::Place;

/// Bytes of the largest file that is looked into.
const MAX_FILE: i64 = 4 << 30;

/// File systems whose files the kernel makes up: proc, sysfs, efivarfs (linux/magic.h).
const KERNELS: [rustix::fs::FsWord; 3] = [PROC_SUPER_MAGIC, 0x6265_6572, 0xde5e_81e4];

/// A process, even if its number is used again meanwhile: it is gone then.
pub struct Process {
    /// Its folder in /proc.
    folder: OwnedFd,
}

impl Process {
    /// `None`: it has gone.
    pub fn open(pid: u32) -> Option<Process> {
        let folder = openat(
            CWD,
            format!("/proc/{pid}"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        Some(Process { folder: folder.ok()? })
    }

    /// What is mapped in it, as /proc has it.
    pub fn maps(&self) -> Option<OwnedFd> {
        openat(&self.folder, "maps", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// The file that is mapped at a place. By the mapping it is that file, whatever has its name now; where the kernel
    /// does not allow that, by its name.
    pub fn mapped(&self, place: &Place) -> Option<OwnedFd> {
        let mapping = format!("map_files/{:x}-{:x}", place.start, place.end);
        match openat(&self.folder, mapping, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => plain(file),
            Err(_) => self.inside(&place.path),
        }
    }

    /// The file in which a process tells what it has compiled: the process's own, or root's. Others would have it call its
    /// functions what they like.
    pub fn perf_map(&self) -> Option<OwnedFd> {
        let status =
            std::fs::read_to_string(format!("/proc/self/fd/{}/status", self.folder.as_raw_fd())).ok()?;
        let numbers = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // Seen from inside of its namespace, it is the last of its numbers.
        let pid: u32 = numbers("NSpid:")?.split_whitespace().last()?.parse().ok()?;
        let user: u32 = numbers("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
        let file = self.inside(&format!("/tmp/perf-{pid}.map"))?;
        let owner = fstat(&file).ok()?.st_uid;
        (owner == user || owner == 0).then_some(file)
    }

    /// A file by the name that it has for the process.
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

/// A file for reading, of one that is opened as a place only: that does nothing to it, whatever it is.
fn plain(place: OwnedFd) -> Option<OwnedFd> {
    let stat = fstat(&place).ok()?;
    let is_plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    // Files of the kernel's look plain, too. Whoever mounts one in place of their own would have it read with our privileges:
    // what is read of /proc/kmsg, for example, is gone. Most have no size.
    let is_kernels = || fstatfs(&place).map_or(true, |about| KERNELS.contains(&about.f_type));
    if !is_plain || stat.st_size == 0 || stat.st_size > MAX_FILE || is_kernels() {
        return None;
    }
    reopen(place.as_fd())
}

/// Without waiting for a lease to be given back.
fn reopen(place: BorrowedFd) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/self/fd/{}", place.as_raw_fd()), flags, Mode::empty()).ok()
}

/// The names of the kernel's functions. Whether addresses can be seen in it is decided when it is opened.
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
    fn only_plain_files_are_opened_and_nothing_is_waited_for() {
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
    fn names_lead_nowhere_but_to_the_root_of_their_process() {
        let process = Process::open(std::process::id()).expect("it runs");
        let own = std::env::current_exe().expect("a path");
        assert!(process.inside(own.to_str().expect("UTF-8")).is_some());
        assert!(process.inside("/proc/self/cwd/Cargo.toml").is_none(), "a link of the kernel's");
        assert!(process.inside("/nonexistent").is_none());
        assert!(process.inside("").is_none());
    }
}
