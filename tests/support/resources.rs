//! The resources of this process that must not grow.

use std::fs;

use super::kernel::descriptors;

/// Resources in use. malloc counts its per-thread caches as allocated, and they grow slowly for a long time; `make soak`
/// disables them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    /// Kilobytes that malloc has allocated.
    pub heap: usize,
    /// Resident kilobytes.
    pub resident: usize,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Resources {
    /// Returns the resources that are in use now.
    pub fn now() -> Resources {
        let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the line exists");
            line.split_whitespace().next().expect("a number follows").parse().expect("it is a number")
        };
        // SAFETY: no arguments.
        let heap = unsafe { libc::mallinfo2() };
        Resources {
            heap: (heap.uordblks + heap.hblkhd) / 1024,
            resident: number("VmRSS:"),
            descriptors: descriptors().len(),
            threads: number("Threads:"),
        }
    }
}
