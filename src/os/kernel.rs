//! What the kernel says of itself and of this process.

use std::os::unix::fs::MetadataExt;

use super::errno::{Result, check};
use super::file::read_text;

/// Release and machine of the running kernel, as `uname -r` and `uname -m` print them.
pub fn kernel() -> (String, String) {
    // SAFETY: uname fills the struct with NUL-terminated texts and cannot fail on a valid pointer.
    unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&mut names);
        let text =
            |field: &[libc::c_char]| std::ffi::CStr::from_ptr(field.as_ptr()).to_string_lossy().into_owned();
        (text(&names.release), text(&names.machine))
    }
}

/// Major and minor version of the running kernel.
pub fn kernel_version() -> Option<(u32, u32)> {
    let (release, _) = kernel();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    Some((numbers.next()?, numbers.next()?))
}

/// The effective capabilities of this thread, one bit each as capabilities(7) numbers them.
pub fn capabilities() -> u64 {
    /// _LINUX_CAPABILITY_VERSION_3, the thread itself.
    const HEAD: [u32; 2] = [0x2008_0522, 0];
    // Effective, permitted and inheritable, first the low halves, then the high ones.
    let mut sets = [0_u32; 6];
    // SAFETY: both arrays have the layout and length of that version.
    let ret = unsafe { libc::syscall(libc::SYS_capget, HEAD.as_ptr(), sets.as_mut_ptr()) };
    if ret == 0 { u64::from(sets[3]) << 32 | u64::from(sets[0]) } else { u64::MAX }
}

/// Whether this process is in the initial user namespace, the only one whose capabilities count for BPF. Where /proc does not
/// tell, it is.
pub fn in_initial_user_namespace() -> bool {
    /// PROC_USER_INIT_INO: the inode of that namespace on every kernel.
    const INITIAL: u64 = 0xefff_fffd;
    std::fs::metadata("/proc/self/ns/user").map_or(true, |namespace| namespace.ino() == INITIAL)
}

/// Random bytes from the kernel.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    // In pieces that the kernel gives whole.
    for piece in bytes.chunks_mut(256) {
        // SAFETY: the piece has the length that is told.
        let got = unsafe { libc::getrandom(piece.as_mut_ptr().cast(), piece.len(), 0) };
        check(got as i32)?;
    }
    Ok(())
}

/// The CPUs in /sys/devices/system/cpu/online, such as `0-3,5`.
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
