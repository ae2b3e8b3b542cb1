//! Clocks and local time.

use super::errno::{Result, check};

/// Returns the time of a clock of clock_gettime(2), in nanoseconds.
pub fn clock(id: libc::clockid_t) -> Result<u64> {
    let (result, ns) = read(id);
    check(result).map(|_| ns)
}

#[inline(always)]
fn read(id: libc::clockid_t) -> (libc::c_int, u64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives for the call, which returns EINVAL for an unknown clock.
    let result = unsafe { libc::clock_gettime(id, &mut time) };
    (result, time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Returns CLOCK_MONOTONIC in nanoseconds. The vDSO reads it, without a system call.
pub fn monotonic_ns() -> u64 {
    // This clock exists on every system.
    read(libc::CLOCK_MONOTONIC).1
}

/// Returns the time at which CLOCK_MONOTONIC was zero, in nanoseconds since 1970. It moves when the machine suspends,
/// because that clock stops then.
pub fn boot_time() -> i64 {
    let time = |id| clock(id).unwrap_or(0) as i64;
    time(libc::CLOCK_REALTIME).wrapping_sub(time(libc::CLOCK_MONOTONIC))
}

/// Returns the local time as `HH:MM:SS`. The C library determines the time zone (TZ, /etc/localtime).
pub fn local_time() -> [u8; 8] {
    // SAFETY: both calls write to the given variables only; `tm` consists of numbers.
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
