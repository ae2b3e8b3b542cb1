//! A memory cgroup for a process of a test, in the version of cgroups that this machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Much longer than the kernel needs to release the last process.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group below the root, removed on drop.
pub struct MemoryCgroup {
    folder: PathBuf,
    is_v2: bool,
}

impl MemoryCgroup {
    /// Creates a group whose processes can use `limit` bytes in total, including kernel memory.
    pub fn new(limit: u64) -> MemoryCgroup {
        let name = format!("eunomia-test-{}-{limit}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let is_v2 = !v1.join("memory.limit_in_bytes").exists();
        let root = if is_v2 { Path::new("/sys/fs/cgroup") } else { v1 };
        let group = MemoryCgroup { folder: root.join(name), is_v2 };
        if is_v2 {
            fs::write(root.join("cgroup.subtree_control"), "+memory").expect("groups can limit memory");
        }
        fs::create_dir(&group.folder).expect("a memory cgroup can be created");
        let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(group.folder.join(file), limit.to_string()).expect("the limit is set");
        group
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The prefix of a command that runs in the group.
    pub fn wrapper(&self) -> [String; 4] {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.folder.display());
        ["sh".into(), "-c".into(), enter, "sh".into()]
    }

    /// The number of processes that were killed because memory ran out.
    pub fn kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folder.join(file)).expect("the group counts");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("since Linux 4.13").trim().parse().expect("a number")
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(e) = fs::remove_dir(&self.folder) {
            if std::thread::panicking() {
                return;
            }
            assert!(Instant::now() < deadline, "{}: {e}", self.folder.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
