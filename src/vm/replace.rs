//! Options and report of a replace, and who may change versions: one call at a time, with both locks.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};

use super::delivery::Delivery;
use super::interrupt::{Claimed, Held};
use super::lock::{locked, poisoned};
use super::state::{Inner, Vm, system_error};
use crate::bpf::session::Session;
pub use crate::bpf::session::replace::ReplaceOptions;
use crate::error::{Error, Result, Status};
use crate::package::{compact, members};

/// The report of a replace.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Replaced {
    /// Whether the new package equals the running one, so that nothing was done.
    pub unchanged: bool,
    /// Nanoseconds of the preparation: opening, comparing, loading and attaching.
    pub load_ns: u64,
    /// Nanoseconds in which no call could deliver events, apart from the grace period of an ordered replace.
    pub flip_ns: u64,
    /// Nanoseconds of the wait for programs of the old version that still ran.
    pub grace_ns: u64,
    /// Whether that wait was long enough. If the kernel offers no way to wait, the library waits for 100 ms and this
    /// field is false.
    pub is_grace_over: bool,
    /// With [`allow_gap`](ReplaceOptions::allow_gap): nanoseconds from the start of detaching the programs that cannot be
    /// switched to the end of attaching the new ones. Their events in that time are lost.
    pub gap_ns: u64,
    /// Number of events that both versions have handled, with [`allow_overlap`](ReplaceOptions::allow_overlap), as far as the
    /// kernel counts them.
    pub doubled: Option<u64>,
    pub(super) programs: String,
    pub(super) maps: String,
    pub(super) migrated: String,
    pub(super) from_old: Arc<AtomicU64>,
}

impl Replaced {
    /// Number of events of the old version that have been delivered since the switch.
    pub fn events_from_old(&self) -> u64 {
        self.from_old.load(Relaxed)
    }

    /// Returns the report as JSON.
    pub fn to_json(&self) -> String {
        fn list(text: &str) -> &str {
            if text.is_empty() { "[]" } else { text }
        }
        // Milliseconds, and microseconds as their decimals.
        let [flip, gap, grace, load] = [self.flip_ns, self.gap_ns, self.grace_ns, self.load_ns]
            .map(|ns| (ns / 1_000_000, ns / 1000 % 1000));
        let doubled = self.doubled.map_or(Cow::Borrowed("null"), |count| count.to_string().into());
        format!(
            "{{\"doubled\":{doubled},\"events_from_old\":{},\"flip_ms\":{}.{:03},\"gap_ms\":{}.{:03},\"grace_complete\":{},\"grace_ms\":{}.{:03},\"load_ms\":{}.{:03},\
             \"maps\":{},\"migrated\":{},\"programs\":{},\"unchanged\":{}}}",
            self.events_from_old(),
            flip.0,
            flip.1,
            gap.0,
            gap.1,
            self.is_grace_over,
            grace.0,
            grace.1,
            load.0,
            load.1,
            list(&self.maps),
            list(&self.migrated),
            list(&self.programs),
            self.unchanged,
        )
    }
}

/// Returns the report of a failed replace: message, detail and subject of its error, its errno and the kind of its subject. It is
/// for hosts that cannot read the error of the vm because another thread is inside a call.
#[cfg_attr(not(feature = "capi"), allow(dead_code, reason = "only the C interface returns it"))]
pub(crate) fn failure_json(texts: &[Cow<'_, str>; 3], errno: i32, kind: u32) -> String {
    let [message, detail, subject] = texts.each_ref().map(|text| (&**text).into());
    compact(&members([
        ("error", message),
        ("detail", detail),
        ("errno", errno.into()),
        ("subject_kind", kind.into()),
        ("subject", subject),
    ]))
}

/// Both locks, taken from the thread that polls. Fields are dropped in this order.
pub(super) struct Locks<'a> {
    pub(super) inner: MutexGuard<'a, Inner>,
    pub(super) delivery: MutexGuard<'a, Delivery>,
    _claim: Claimed<'a>,
}

impl Vm {
    /// Takes the turn of a call that changes versions. It fails in a callback, and while a WASM module is open.
    pub(super) fn take_turn(&self) -> Result<ReplaceTurn<'_>> {
        self.check_claim()?;
        let is_taken = &self.shared.replacing;
        if is_taken.swap(true, SeqCst) {
            return Err(Error::new(Status::Busy, "replace: another version is being prepared"));
        }
        Ok(ReplaceTurn(is_taken))
    }

    /// Fails if this thread has the locks that `claim` would wait for, and while a WASM module is open: a guest cannot
    /// be replaced in phases.
    pub(super) fn check_claim(&self) -> Result<()> {
        self.check_thread()?;
        if self.shared.has_module.load(SeqCst) {
            let text = "a WASM module is open, which can only be replaced in one call";
            return Err(Error::new(Status::Unsupported, text));
        }
        Ok(())
    }

    /// Fails if this thread has the locks that `claim` would wait for.
    pub(super) fn check_thread(&self) -> Result<()> {
        match self.shared.stop.is_polling() {
            true => Err(Error::new(Status::Busy, "replace: called from a callback of this vm")),
            false => Ok(()),
        }
    }

    /// Takes both locks as soon as the call that has them reaches its next batch.
    pub(super) fn claim(&self) -> Result<Locks<'_>> {
        let claim = self.shared.stop.claim(&self.shared.epoll);
        let claim = claim.map_err(|e| system_error("replace", e))?;
        let delivery = locked(&self.shared.delivery);
        claim.has(Held::Delivery);
        let inner = locked(&self.shared.inner);
        claim.has(Held::Both);
        if self.shared.delivery.is_poisoned() || self.shared.inner.is_poisoned() {
            return Err(poisoned());
        }
        Ok(Locks { inner, delivery, _claim: claim })
    }
}

/// The turn of a call that changes versions, until it is dropped.
pub(super) struct ReplaceTurn<'a>(&'a AtomicBool);

impl Drop for ReplaceTurn<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// Returns the running version, which is attached and which this process has loaded.
pub(super) fn running(inner: &Inner) -> Result<&Session> {
    let session = attached(inner)?;
    session.check_own()?;
    if inner.kept.is_some() {
        return Err(Error::new(Status::State, "an old version is kept; commit or roll back first"));
    }
    Ok(session)
}

/// Returns the running version, which is attached here or was imported.
pub(super) fn attached(inner: &Inner) -> Result<&Session> {
    let session = inner.loaded()?;
    if session.is_attached() || session.check_own().is_err() {
        return Ok(session);
    }
    Err(Error::new(Status::State, "the package is not attached; only a running package can be replaced"))
}
