//! The clock for times in records, which count from the start of CLOCK_MONOTONIC.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use eunomia::render::Clock;
use rustix::time::{ClockId, Timespec, clock_gettime};

static BOOT_TIME: AtomicI64 = AtomicI64::new(0);

/// Reads the clocks, for the records of the next batch.
pub fn update() {
    BOOT_TIME.store(boot_time(), Relaxed);
}

/// A clock that reads the time when it is needed for the first time.
pub fn now() -> Clock {
    Clock::new(boot_time)
}

fn boot_time() -> i64 {
    let nanoseconds = |time: Timespec| time.tv_sec * 1_000_000_000 + time.tv_nsec;
    let now = |clock| nanoseconds(clock_gettime(clock));
    now(ClockId::Realtime) - now(ClockId::Monotonic)
}

/// The clock that the library formats the times in records with.
pub fn clock() -> Clock {
    Clock::new(|| BOOT_TIME.load(Relaxed))
}
