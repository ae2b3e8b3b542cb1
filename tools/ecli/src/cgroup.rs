//! The memory cgroup of a run. The kernel charges maps to the group of the process that makes them, so a limit there holds
//! also for what counting before load cannot know. Where no group may be made, the run goes on without.
//!
//! The group is a child of the one that ecli is in, never beside it: what limits that one goes on to hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use eunomia::vm::kernel_memory_limit;

/// What ecli itself may take beside the kernel memory of a package: events that wait, symbols, downloads.
const OWN: u64 = 1 << 30;

/// Names of groups, before the number of the process.
const PREFIX: &str = "ecli-";
/// What children of a group have limits of, in the second version.
const CHILDREN: &str = "cgroup.subtree_control";

/// Times that making a group is tried: another run may take an empty one for what a dead run has left.
const TRIES: usize = 3;

/// The group of this process, until it is left.
static GROUP: Mutex<Option<Group>> = Mutex::new(None);

struct Group {
    folder: PathBuf,
    parent: PathBuf,
    /// Whether the parent's children have limits of memory only since this one is there.
    is_first: bool,
}

/// Where groups with a limit of memory are.
struct Tree {
    /// The group that this process is in.
    own: PathBuf,
    is_v2: bool,
}

/// Limits this process, and what it has in the kernel from now on, to the kernel memory that the option stands for, which is
/// returned, and what ecli takes itself.
pub fn enter(max_kernel_memory: u64) -> u64 {
    let limit = kernel_memory_limit(max_kernel_memory);
    if let (Some(all), Some(tree)) = (limit.checked_add(OWN), Tree::find()) {
        tree.clear();
        *group() = (0..TRIES).find_map(|_| tree.enter(all).ok());
    }
    limit
}

/// Goes back and removes the group. What a run that was killed leaves, the next one removes.
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

    /// A group whose children are to have limits must have no processes of its own. That is so where ecli was alone in it.
    fn enter_v2(&mut self, limit: u64) -> io::Result<()> {
        move_to(&self.folder)?;
        if !self.folder.join("memory.max").exists() {
            fs::write(self.parent.join(CHILDREN), "+memory")?;
            self.is_first = true;
        }
        fs::write(self.folder.join("memory.max"), limit.to_string())
    }

    /// What fails here leaves an empty folder, or one that the next run removes.
    fn leave(self) {
        if self.is_first {
            let _ = fs::write(self.parent.join(CHILDREN), "-memory");
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

    /// Removes the groups of runs that have ended; the kernel keeps those with a process in them.
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
        let mut group = Group { folder, parent: self.own.clone(), is_first: false };
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

/// Moves this process, with all its threads.
fn move_to(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}
