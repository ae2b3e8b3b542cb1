//! The limits of a guest: its options, with defaults for those that are 0, and limits without an option.

use std::time::Duration;

use super::config::Config;
use super::sys::instance::{Limits, PAGE};

/// Maximum sum of the initial sizes of all tables. No option limits their memory, which is 8 MiB at most.
pub(super) const MAX_ELEMENTS: u64 = 1 << 20;

impl Config {
    /// Returns the sizes that limit a guest.
    pub(super) fn limits(&self) -> Limits {
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        Limits {
            stack: or(self.stack, 128 << 10),
            // WAMR does not accept a smaller heap. A larger one would leave little space for the guest's own memory.
            heap: or(self.heap, 2 << 20).clamp(4096, 1 << 30),
            memory: or(self.memory, 16 << 20).max(PAGE),
        }
    }

    /// Returns the time limit for one event.
    pub(super) fn time_limit(&self) -> Duration {
        Duration::from_millis(if self.budget_ms == 0 { 1000 } else { self.budget_ms }.into())
    }
}
