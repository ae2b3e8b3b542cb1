//! The vm as C holds it: the Rust [`Vm`], which thread is using it, and what it keeps for the caller between calls.

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::args::c_string;
use super::types::eunomia_subject;
use crate::error::{Error, Failure, Status, Subject};
use crate::log::{Level, Log};
use crate::vm::{MapInfo, ProgInfo, SourceInfo, Vm};

/// A vm, which holds at most one package. Created by eunomia_new, freed by eunomia_destroy.
pub struct eunomia_vm {
    pub(super) vm: Vm,
    /// Receives what the vm itself can no longer log.
    log: Log,
    /// The thread that is inside a call; 0 for none.
    user: AtomicUsize,
    poisoned: AtomicBool,
    /// Used only by the thread in `user` and never across a callback, so the lock is always free.
    state: Mutex<CallState>,
}

/// What a vm keeps for its caller between two calls.
#[derive(Default)]
pub(super) struct CallState {
    pub(super) error: LastError,
    /// Keeps strings alive until the caller's next call.
    returned: Returned,
}

/// The last failed call, as `eunomia_errmsg` and its siblings report it.
#[derive(Default)]
pub(super) struct LastError {
    pub(super) message: CString,
    pub(super) detail: CString,
    pub(super) errno: c_int,
    pub(super) kind: eunomia_subject,
    pub(super) subject: CString,
}

impl LastError {
    fn new(error: Error) -> LastError {
        use eunomia_subject::*;
        let message = c_string(error.to_string());
        let errno = error.errno().unwrap_or(0);
        let Failure { subject, detail, .. } = error.into_failure();
        let kind = match &subject {
            Some(Subject::Variable(_)) => EUNOMIA_SUBJECT_VARIABLE,
            Some(Subject::Map(_)) => EUNOMIA_SUBJECT_MAP,
            Some(Subject::Program { .. }) => EUNOMIA_SUBJECT_PROGRAM,
            Some(Subject::Metadata(_)) => EUNOMIA_SUBJECT_METADATA,
            Some(Subject::File(_)) => EUNOMIA_SUBJECT_FILE,
            None => EUNOMIA_SUBJECT_NONE,
        };
        let name = subject.as_ref().map_or("", Subject::name);
        LastError { message, detail: c_string(detail), errno, kind, subject: c_string(name.to_owned()) }
    }
}

/// Owns the strings that the last call returned.
#[derive(Default)]
#[allow(dead_code, reason = "kept alive, not read")]
pub(super) enum Returned {
    #[default]
    Nothing,
    String(CString),
    Map(MapInfo),
    Source(SourceInfo),
    Prog(ProgInfo),
}

/// Permission to be inside a call. The outermost call of a thread gives it back.
pub(super) struct Turn<'a>(Option<&'a eunomia_vm>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(vm) = self.0 {
            vm.user.store(0, Release);
        }
    }
}

impl eunomia_vm {
    pub(super) fn new(vm: Vm, log: Log) -> eunomia_vm {
        let (user, poisoned, state) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::default());
        eunomia_vm { vm, log, user, poisoned, state }
    }

    /// Takes the turn unless another thread has it. A callback uses the turn of the poll that calls it.
    pub(super) fn enter(&self) -> Option<Turn<'_>> {
        let me = this_thread();
        match self.user.compare_exchange(0, me, Acquire, Relaxed) {
            Ok(_) => Some(Turn(Some(self))),
            Err(user) => (user == me).then_some(Turn(None)),
        }
    }

    /// Whether a thread is inside a call.
    pub(super) fn is_in_use(&self) -> bool {
        self.user.load(Acquire) != 0
    }

    /// Returns what is kept for the caller. Only for the thread that has the turn.
    pub(super) fn state(&self) -> MutexGuard<'_, CallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a struct's strings point to until the next call.
    pub(super) fn keep(&self, returned: Returned) {
        self.state().returned = returned;
    }

    /// Keeps `text` until the next call and returns it as a C string.
    pub(super) fn keep_string(&self, text: String) -> *const c_char {
        let text = c_string(text);
        let start = text.as_ptr(); // on the heap, so moving the owner does not move it
        self.keep(Returned::String(text));
        start
    }

    /// Stores `error` for `eunomia_errmsg` and returns its status.
    pub(super) fn store_error(&self, error: Error) -> Status {
        let status = error.status();
        self.state().error = LastError::new(error);
        status
    }

    /// Marks the vm as unusable after a panic and logs the panic.
    pub(super) fn poison(&self, panic: &str) -> Status {
        self.poisoned.store(true, Relaxed);
        self.log_error(panic);
        Status::Internal
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Relaxed)
    }

    pub(super) fn log_error(&self, line: &str) {
        self.log.write(Level::Error, line);
    }

    /// Takes the handle apart, so that the log outlives the vm.
    pub(super) fn into_parts(self) -> (Vm, Log) {
        (self.vm, self.log)
    }
}

/// Returns a number for the calling thread that no other running thread has.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| ptr::from_ref(here).addr())
}
