//! A vm's reference to the group that it is in.

use std::ptr::addr_eq;
use std::sync::{Arc, Weak};

/// A group, which a member can leave.
pub trait Leave: Send + Sync {
    /// Removes the member with that token, and waits until its callback, if it runs in another thread, has returned.
    fn leave(&self, token: u64);
}

/// The membership of a vm. The vm does not keep the group alive.
pub struct Membership {
    group: Weak<dyn Leave>,
    token: u64,
}

impl Membership {
    /// Returns the membership that `group` identifies by `token`.
    pub fn new(group: Weak<dyn Leave>, token: u64) -> Membership {
        Membership { group, token }
    }

    /// Returns whether the group still exists.
    pub fn is_alive(&self) -> bool {
        self.group.strong_count() > 0
    }

    /// Returns whether this is a membership in `group`.
    pub fn is_in<G>(&self, group: &Arc<G>) -> bool {
        addr_eq(self.group.as_ptr(), Arc::as_ptr(group))
    }

    /// Ends the membership.
    pub fn leave(self) {
        self.group.upgrade().inspect(|group| group.leave(self.token));
    }
}
