//! Facts about the running kernel and about this process.

use std::os::unix::fs::MetadataExt;

use super::errno::{Result, check};
use super::file::read_text;

/// Returns release and machine of the running kernel, as `uname -r` and `uname -m` print them.
pub fn kernel() -> (String, String) {
    // SAFETY: uname fills the struct with NUL-terminated strings and cannot fail with a valid pointer.
    unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&mut names);
        let string =
            |field: &[libc::c_char]| std::ffi::CStr::from_ptr(field.as_ptr()).to_string_lossy().into_owned();
        (string(&names.release), string(&names.machine))
    }
}

/// Returns the major and minor version of the running kernel.
pub fn kernel_version() -> Option<(u32, u32)> {
    let (release, _) = kernel();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    Some((numbers.next()?, numbers.next()?))
}

/// Waits until every BPF program that runs now and cannot sleep has ended: for an RCU grace period. Returns false if the
/// kernel offers no such wait (nohz_full); then the function waits for a time in which programs usually end.
pub fn wait_for_programs() -> bool {
    const USUALLY: std::time::Duration = std::time::Duration::from_millis(100);
    let (command, flags) = (libc::MEMBARRIER_CMD_GLOBAL, 0);
    // SAFETY: numbers only.
    let waited = check(unsafe { libc::syscall(libc::SYS_membarrier, command, flags, 0) as i32 });
    if waited.is_err() {
        std::thread::sleep(USUALLY);
    }
    waited.is_ok()
}

/// Returns the effective capabilities of this thread: one bit for each, by its number in capabilities(7).
pub fn capabilities() -> u64 {
    /// _LINUX_CAPABILITY_VERSION_3, and 0 for this thread.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    // Effective, permitted and inheritable, the low halves first, then the high ones.
    let mut sets = [0_u32; 6];
    // SAFETY: both arrays have the layout and length that this version defines.
    let ret = unsafe { libc::syscall(libc::SYS_capget, HEADER.as_ptr(), sets.as_mut_ptr()) };
    if ret == 0 { u64::from(sets[3]) << 32 | u64::from(sets[0]) } else { u64::MAX }
}

/// Whether this process is in the initial user namespace. Only capabilities in that namespace apply to BPF. True if
/// /proc is not readable.
pub fn in_initial_user_namespace() -> bool {
    /// PROC_USER_INIT_INO: the inode of that namespace on every kernel.
    const INITIAL: u64 = 0xefff_fffd;
    std::fs::metadata("/proc/self/ns/user").map_or(true, |namespace| namespace.ino() == INITIAL)
}

/// Fills `bytes` with random bytes from the kernel.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    // getrandom returns up to 256 bytes without interruption.
    for chunk in bytes.chunks_mut(256) {
        // SAFETY: the chunk has that length.
        let got = unsafe { libc::getrandom(chunk.as_mut_ptr().cast(), chunk.len(), 0) };
        check(got as i32)?;
    }
    Ok(())
}

/// Returns the CPUs listed in /sys/devices/system/cpu/online, such as `0-3,5`.
pub fn online_cpus() -> Result<Vec<i32>> {
    let text = read_text("/sys/devices/system/cpu/online")?;
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            cpus.extend((first..=last).map(|cpu| cpu as i32));
        }
    }
    Ok(cpus)
}
