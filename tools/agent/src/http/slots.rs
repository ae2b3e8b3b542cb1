//! Counts the connections and requests of each caller, and refuses those beyond the limits.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::StatusCode;

use super::limits::Limits;
use crate::error::{ApiError, Result};

/// Maximum number of callers whose state is kept. Beyond it, callers without connections and with a full burst are
/// removed.
const MAX_CALLERS: usize = 1024;

/// A caller, whose connections and requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A user of the unix socket.
    User(u32),
    /// An address.
    Address(IpAddr),
}

/// The connections and requests of all callers.
pub struct Slots {
    limits: Limits,
    callers: Mutex<Callers>,
}

#[derive(Default)]
struct Callers {
    connections: usize,
    each: BTreeMap<Key, Caller>,
}

struct Caller {
    connections: usize,
    /// The number of requests that the caller can still send, in billionths of a request.
    credit: u64,
    at: Instant,
}

/// The units of credit in one request. With a billion of them, a caller gains in each nanosecond as many units as the limit has
/// requests per second.
const REQUEST: u64 = 1_000_000_000;

/// A slot for one connection. It is released when this is dropped.
pub struct Slot {
    slots: Arc<Slots>,
    key: Key,
}

impl Slots {
    /// Creates the counters, without connections.
    pub fn new(limits: Limits) -> Arc<Slots> {
        Arc::new(Slots { limits, callers: Mutex::default() })
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a new connection.
    pub fn connect(self: &Arc<Slots>, key: Key) -> Result<Slot> {
        let mut callers = self.callers();
        // Connections of other users must not prevent those of root.
        if callers.connections >= self.limits.connections && key != Key::User(0) {
            let text = format!("all {} connections are in use", self.limits.connections);
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text)
                .hint("try again later")
                .header("Retry-After", 1));
        }
        let most = self.limits.connections_per_caller;
        let caller = callers.caller(key, &self.limits);
        if caller.connections >= most {
            let text = format!("you already have {most} connections, the limit for one caller");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", text)
                .hint("close some of them")
                .header("Retry-After", 1));
        }
        caller.connections += 1;
        callers.connections += 1;
        Ok(Slot { slots: Arc::clone(self), key })
    }

    /// Counts a request.
    pub fn request(&self, key: Key) -> Result<()> {
        let mut callers = self.callers();
        let caller = callers.caller(key, &self.limits);
        match caller.credit.checked_sub(REQUEST) {
            Some(rest) => {
                caller.credit = rest;
                Ok(())
            }
            None => {
                let most = self.limits.requests_per_second;
                let text = format!("more than {most} requests per second");
                Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", text)
                    .hint("wait a second")
                    .header("Retry-After", 1))
            }
        }
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        // A panic while it was locked leaves valid numbers.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Callers {
    fn caller(&mut self, key: Key, limits: &Limits) -> &mut Caller {
        let full = u64::from(limits.burst) * REQUEST;
        let now = Instant::now();
        if self.each.len() >= MAX_CALLERS {
            self.each.retain(|_, caller| {
                caller.refill(now, limits);
                caller.connections > 0 || caller.credit < full
            });
        }
        let caller = self.each.entry(key).or_insert(Caller { connections: 0, credit: full, at: now });
        caller.refill(now, limits);
        caller
    }
}

impl Caller {
    fn refill(&mut self, now: Instant, limits: &Limits) {
        let passed = u64::try_from(now.duration_since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(limits.requests_per_second.into());
        self.credit = self.credit.saturating_add(gained).min(u64::from(limits.burst) * REQUEST);
        self.at = now;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut callers = self.slots.callers();
        callers.connections -= 1;
        if let Some(caller) = callers.each.get_mut(&self.key) {
            caller.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(limits: Limits) -> Arc<Slots> {
        Slots::new(limits)
    }

    #[test]
    fn a_caller_cannot_take_the_connections_of_others() {
        let slots = slots(Limits { connections: 3, connections_per_caller: 2, ..Limits::default() });
        let first = slots.connect(Key::User(1)).unwrap();
        let _second = slots.connect(Key::User(1)).unwrap();
        assert_eq!(slots.connect(Key::User(1)).err().unwrap().code, StatusCode::TOO_MANY_REQUESTS);
        let _other = slots.connect(Key::User(2)).unwrap();
        assert_eq!(slots.connect(Key::User(3)).err().unwrap().code, StatusCode::SERVICE_UNAVAILABLE);
        let root = slots.connect(Key::User(0)).unwrap();
        drop(first);
        assert_eq!(slots.connect(Key::User(3)).err().unwrap().code, StatusCode::SERVICE_UNAVAILABLE);
        drop(root);
        assert!(slots.connect(Key::User(1)).is_ok(), "a closed connection is free again");
    }

    #[test]
    fn requests_beyond_the_burst_are_refused_for_that_caller_only() {
        // So few per second that none is gained during the test.
        let slots = slots(Limits { requests_per_second: 0, burst: 2, ..Limits::default() });
        assert!(slots.request(Key::User(1)).is_ok() && slots.request(Key::User(1)).is_ok());
        assert_eq!(slots.request(Key::User(1)).unwrap_err().status, "too_many_requests");
        assert!(slots.request(Key::User(2)).is_ok());
    }

    #[test]
    fn callers_without_connections_are_forgotten() {
        let slots = slots(Limits::default());
        for user in 0..3 * MAX_CALLERS as u32 {
            drop(slots.connect(Key::User(user)).unwrap());
        }
        assert!(slots.callers().each.len() <= MAX_CALLERS);
    }
}
