//! Memory: mappings, the amount that is available, and a search in bytes.

use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;

use super::errno::{Errno, Result};
use super::file::{read, read_text};

/// A kernel file that never changes, in memory. It is mapped if the kernel can map it (BTF in sysfs: since Linux 6.16) and
/// read otherwise. It is not read into the heap, because the heap would keep the pages afterwards.
pub struct KernelFile {
    start: NonNull<u8>,
    len: usize,
}

impl KernelFile {
    /// Maps or reads the file.
    pub fn open(path: &str) -> Result<KernelFile> {
        let file = std::fs::File::open(path)?;
        let len = file.metadata()?.len() as usize;
        if let Ok(mapped) = KernelFile::map(len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd()) {
            return Ok(mapped);
        }
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let copy = KernelFile::map(len, access, kind, -1)?;
        // SAFETY: new and writable memory of that length; nothing else refers to it yet.
        let into = unsafe { std::slice::from_raw_parts_mut(copy.start.as_ptr(), len) };
        let mut filled = 0;
        while filled < len {
            match read(file.as_raw_fd(), &mut into[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        Ok(copy)
    }

    fn map(len: usize, access: i32, kind: i32, fd: RawFd) -> Result<KernelFile> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(start.cast()).map(|start| KernelFile { start, len }).ok_or(Errno(libc::ENOMEM))
    }
}

impl std::ops::Deref for KernelFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped until drop; neither the kernel nor this crate changes it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for KernelFile {
    fn drop(&mut self) {
        // SAFETY: the mapping of this value; nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Maps `len` bytes and unmaps them again. Returns whether that worked. It does not use `malloc`: glibc raises its mmap
/// threshold after a large block is freed, and keeps such blocks from then on.
pub fn try_memory(len: usize) -> bool {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address that the kernel chooses; nothing uses it before it is unmapped.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), len.max(1), access, kind, -1, 0);
        memory != libc::MAP_FAILED && libc::munmap(memory, len.max(1)) == 0
    }
}

/// Returns the bytes of memory that are available without swapping (MemAvailable of proc_meminfo(5)), or `u64::MAX` if /proc
/// is not readable.
pub fn available_memory() -> u64 {
    let text = read_text("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(u64::MAX, |kib: u64| kib << 10)
}

/// Returns the size of a memory page.
pub fn page_size() -> u64 {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// Returns the offset of `part` in `whole`. The time grows with the sum of the lengths, not with their product.
pub fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    // SAFETY: both slices have these lengths; the result points into `whole`.
    unsafe {
        let found = libc::memmem(whole.as_ptr().cast(), whole.len(), part.as_ptr().cast(), part.len());
        (!found.is_null()).then(|| found.cast::<u8>().offset_from(whole.as_ptr()) as usize)
    }
}
