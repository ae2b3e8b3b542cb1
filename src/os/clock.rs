//! Clocks and local time.

use super::errno::{Result, check};

/// A clock of clock_gettime(2), in nanoseconds.
pub fn clock(id: libc::clockid_t) -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives for the call; an unknown clock is answered with EINVAL.
    check(unsafe { libc::clock_gettime(id, &mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Returns CLOCK_MONOTONIC in nanoseconds. The vDSO reads it, without a system call.
pub fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// The time since 1970, in nanoseconds, at which CLOCK_MONOTONIC was zero. Suspending moves it, for that clock stands still.
pub fn boot_time() -> i64 {
    let time = |id| clock(id).unwrap_or(0) as i64;
    time(libc::CLOCK_REALTIME).wrapping_sub(time(libc::CLOCK_MONOTONIC))
}

/// The local time as `HH:MM:SS`; the time zone is the C library's (TZ, /etc/localtime).
pub fn local_time() -> [u8; 8] {
    // SAFETY: both calls only write to the variables given; `tm` is plain numbers.
    let tm = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&now, &mut tm);
        tm
    };
    let digits = |n: i32| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
    let ([h1, h2], [m1, m2], [s1, s2]) = (digits(tm.tm_hour), digits(tm.tm_min), digits(tm.tm_sec));
    [h1, h2, b':', m1, m2, b':', s1, s2]
}
