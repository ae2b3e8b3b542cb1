//! Finds leaks: kernel objects and descriptors that a vm leaves after it is dropped.
//!
//! Ids are shared by the whole machine. Objects to which another process has a descriptor do not belong to the test. Any other
//! object that is new and stays is a leak. The kernel frees asynchronously (RCU), so the check waits for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use libbpf_sys as b;

/// Much longer than the kernel needs to free an object.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program, map or link: its kind and the kernel's id.
type Id = (&'static str, u32);

/// The state before.
pub struct Watch {
    fds: BTreeMap<i32, String>,
    ids: BTreeSet<Id>,
}

impl Watch {
    pub fn new() -> Watch {
        Watch { fds: descriptors(), ids: ids() }
    }

    /// Asserts that programs, maps and links are as before; descriptors may differ.
    pub fn kernel_is_clean(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut suspects: BTreeSet<Id> = ids().difference(&self.ids).copied().collect();
        loop {
            suspects = &(&suspects & &ids()) - &held_by_others();
            if suspects.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left in the kernel: {}", describe(&suspects));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asserts that descriptors, programs, maps and links are as before. Waits for other threads that are starting a command,
    /// whose descriptors are temporary.
    pub fn is_clean(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut suspects = descriptors();
        loop {
            let now = descriptors();
            suspects.retain(|fd, target| self.fds.get(fd) != Some(target) && now.get(fd) == Some(target));
            if suspects.is_empty() {
                return self.kernel_is_clean();
            }
            assert!(Instant::now() < deadline, "descriptors before: {:?}, left: {suspects:?}", self.fds);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The target of each descriptor of this process.
pub fn descriptors() -> BTreeMap<i32, String> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let target = fs::read_link(&path).ok()?.to_string_lossy().into_owned();
        let fd = path.file_name()?.to_str()?.parse().ok()?;
        // The descriptor of this directory itself.
        (!target.ends_with("/fd")).then_some((fd, target))
    };
    entries.filter_map(entry).collect()
}

type Next = unsafe extern "C" fn(u32, *mut u32) -> i32;
type Open = unsafe extern "C" fn(u32) -> i32;
const KINDS: [(&str, Next, Open); 3] = [
    ("program", b::bpf_prog_get_next_id, b::bpf_prog_get_fd_by_id),
    ("map", b::bpf_map_get_next_id, b::bpf_map_get_fd_by_id),
    ("link", b::bpf_link_get_next_id, b::bpf_link_get_fd_by_id),
];

fn ids() -> BTreeSet<Id> {
    let all = |(kind, next, _): (&'static str, Next, Open)| {
        let after = move |id: &Id| {
            let mut found = 0;
            // SAFETY: the kernel writes one number.
            (unsafe { next(id.1, &mut found) } == 0).then_some((kind, found))
        };
        std::iter::successors(after(&(kind, 0)), after)
    };
    KINDS.into_iter().flat_map(all).collect()
}

/// The objects to which other processes have descriptors.
fn held_by_others() -> BTreeSet<Id> {
    let me = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("/proc is mounted").filter_map(Result::ok);
    let others = processes.map(|entry| entry.path()).filter(|path| !path.ends_with(&me));
    let infos = others.filter_map(|path| fs::read_dir(path.join("fdinfo")).ok()).flatten();
    let texts = infos.filter_map(|info| fs::read_to_string(info.ok()?.path()).ok());
    texts.flat_map(|text| text.lines().filter_map(id_in).collect::<Vec<_>>()).collect()
}

/// Parses a line of /proc/PID/fdinfo/FD, such as `prog_id: 57`.
fn id_in(line: &str) -> Option<Id> {
    let (key, value) = line.split_once(':')?;
    let kind = match key {
        "prog_id" => "program",
        "map_id" => "map",
        "link_id" => "link",
        _ => return None,
    };
    Some((kind, value.trim().parse().ok()?))
}

fn describe(ids: &BTreeSet<Id>) -> String {
    ids.iter().map(|id| format!("{} {} {:?}", id.0, id.1, name(*id))).collect::<Vec<_>>().join(", ")
}

/// The name of a program or map.
fn name((kind, id): Id) -> Option<String> {
    let open = KINDS.iter().find(|known| known.0 == kind)?.2;
    // SAFETY: this function owns the descriptor; the kernel gets the length of each info struct; names are NUL-terminated.
    unsafe {
        let fd = Some(open(id)).filter(|fd| *fd >= 0).map(|fd| OwnedFd::from_raw_fd(fd))?;
        let mut prog = b::bpf_prog_info::default();
        let mut map = b::bpf_map_info::default();
        let (mut prog_len, mut map_len) = (size_of_val(&prog) as u32, size_of_val(&map) as u32);
        let name = match kind {
            "program" => {
                b::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &mut prog, &mut prog_len);
                prog.name.as_ptr()
            }
            "map" => {
                b::bpf_map_get_info_by_fd(fd.as_raw_fd(), &mut map, &mut map_len);
                map.name.as_ptr()
            }
            _ => return None,
        };
        Some(CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}
