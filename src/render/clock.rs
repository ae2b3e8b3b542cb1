//! Converts the times of CLOCK_MONOTONIC in records to times of day.

use std::cell::Cell;

/// Converts the times in a batch of records. Calls `boot_time` for the first time in the batch, and uses the result for the
/// whole batch; a batch without times costs nothing.
pub struct Clock {
    read: fn() -> i64,
    boot_time: Cell<Option<i64>>,
}

impl Clock {
    /// Creates a clock. `boot_time` returns the time at which CLOCK_MONOTONIC was zero, in nanoseconds since 1970.
    pub fn new(boot_time: fn() -> i64) -> Clock {
        Clock { read: boot_time, boot_time: Cell::new(None) }
    }

    /// Converts a result of `bpf_ktime_get_ns` to nanoseconds since 1970.
    pub(super) fn unix_time(&self, since_boot: u64) -> i64 {
        let boot_time = self.boot_time.get().unwrap_or_else(|| (self.read)());
        self.boot_time.set(Some(boot_time));
        boot_time.saturating_add(i64::try_from(since_boot).unwrap_or(i64::MAX))
    }
}
