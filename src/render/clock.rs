//! Converts the kernel's times, which count from the start of CLOCK_MONOTONIC.

use std::cell::Cell;

/// Converts times of CLOCK_MONOTONIC for a batch of records. It asks for the time at which that clock started when the
/// first record needs it, and uses the answer for the whole batch.
pub struct Clock {
    read: fn() -> i64,
    boot_time: Cell<Option<i64>>,
}

impl Clock {
    /// Creates a clock. `boot_time` returns the time at which CLOCK_MONOTONIC was zero, in nanoseconds since 1970.
    pub fn new(boot_time: fn() -> i64) -> Clock {
        Clock { read: boot_time, boot_time: Cell::new(None) }
    }

    /// Returns a time of `bpf_ktime_get_ns` in nanoseconds since 1970.
    pub(super) fn unix_time(&self, since_boot: u64) -> i64 {
        let boot_time = self.boot_time.get().unwrap_or_else(|| (self.read)());
        self.boot_time.set(Some(boot_time));
        boot_time.saturating_add(i64::try_from(since_boot).unwrap_or(i64::MAX))
    }
}
