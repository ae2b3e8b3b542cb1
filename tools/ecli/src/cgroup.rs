//! The memory cgroup of a run. The kernel charges maps to the cgroup of the process that creates them, so its limit also
//! covers memory that cannot be counted before load. If no cgroup can be created, the run continues without one.
//!
//! The cgroup is a child of the current one, so that the limits of the current one still apply.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use eunomia::vm::kernel_memory_limit;

/// The memory of ecli itself, in addition to the kernel memory of a package: queued events, symbols, downloads.
const OWN_MEMORY: u64 = 1 << 30;

/// The names of cgroups are this and the process id.
const PREFIX: &str = "ecli-";
/// The controllers of the children of a cgroup, in version 2.
const CONTROLLERS: &str = "cgroup.subtree_control";

/// Attempts to create a cgroup. Another run may remove it while it is empty.
const TRIES: usize = 3;

/// The cgroup of this run.
static GROUP: Mutex<Option<Group>> = Mutex::new(None);

struct Group {
    folder: PathBuf,
    parent: PathBuf,
    /// Whether this run enabled the memory controller for the children of the parent.
    has_enabled: bool,
}

/// The cgroup hierarchy with the memory controller.
struct Tree {
    /// The cgroup of this process.
    own: PathBuf,
    is_v2: bool,
}

/// Limits the memory of this process and of the maps that it creates to the sum of the kernel memory that the option specifies and
/// the memory of ecli. Returns that kernel memory.
pub fn enter(max_kernel_memory: u64) -> u64 {
    let limit = kernel_memory_limit(max_kernel_memory);
    if let (Some(all), Some(tree)) = (limit.checked_add(OWN_MEMORY), Tree::find()) {
        tree.clear();
        *group() = (0..TRIES).find_map(|_| tree.enter(all).ok());
    }
    limit
}

/// Leaves and removes the cgroup. The cgroup of a killed run is removed by the next run.
pub fn leave() {
    if let Some(group) = group().take() {
        group.leave();
    }
}

fn group() -> MutexGuard<'static, Option<Group>> {
    GROUP.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    fn enter_v1(&mut self, limit: u64) -> io::Result<()> {
        fs::write(self.folder.join("memory.limit_in_bytes"), limit.to_string())?;
        move_to(&self.folder)
    }

    /// The kernel enables a controller for the children of a cgroup only if the cgroup contains no process. This is true here
    /// if ecli was the only process in it.
    fn enter_v2(&mut self, limit: u64) -> io::Result<()> {
        move_to(&self.folder)?;
        if !self.folder.join("memory.max").exists() {
            fs::write(self.parent.join(CONTROLLERS), "+memory")?;
            self.has_enabled = true;
        }
        fs::write(self.folder.join("memory.max"), limit.to_string())
    }

    /// Ignores failures: the next run removes the cgroup.
    fn leave(self) {
        if self.has_enabled {
            let _ = fs::write(self.parent.join(CONTROLLERS), "-memory");
        }
        let _ = move_to(&self.parent);
        let _ = fs::remove_dir(self.folder);
    }
}

impl Tree {
    fn find() -> Option<Tree> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let lines = || groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        let path = |root: &str, path: &str| Path::new(root).join(path.trim_start_matches('/'));
        let v1 = lines().find_map(|line| match line[..] {
            [_, controllers, own] if controllers.split(',').any(|name| name == "memory") => {
                Some(Tree { own: path("/sys/fs/cgroup/memory", own), is_v2: false })
            }
            _ => None,
        });
        let v2 = || {
            lines().find_map(|line| match line[..] {
                ["0", "", own] => Some(Tree { own: path("/sys/fs/cgroup", own), is_v2: true }),
                _ => None,
            })
        };
        v1.or_else(v2).filter(|tree| tree.own.join("cgroup.procs").exists())
    }

    /// Removes the cgroups of ended runs. The kernel refuses to remove one that contains a process.
    fn clear(&self) {
        for entry in fs::read_dir(&self.own).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            if number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    fn enter(&self, limit: u64) -> io::Result<Group> {
        let folder = self.own.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&folder)?;
        let mut group = Group { folder, parent: self.own.clone(), has_enabled: false };
        let entered = if self.is_v2 { group.enter_v2(limit) } else { group.enter_v1(limit) };
        match entered {
            Ok(()) => Ok(group),
            Err(e) => {
                group.leave();
                Err(e)
            }
        }
    }
}

/// Moves this process with all its threads.
fn move_to(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}
