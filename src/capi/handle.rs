//! Vms and groups as C holds them: the Rust object, which thread is using it, and what is kept for the caller between calls.

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::args::c_string;
use super::types::eunomia_subject;
use crate::error::{Error, Failure, Status, Subject};
use crate::log::{Level, Log};
use crate::vm::{AsVm, Batch, Group, MapInfo, Prepared, ProgInfo, Replaced, SourceInfo, Vm};

/// A vm, which holds at most one package. Created by eunomia_new, freed by eunomia_destroy.
pub struct eunomia_vm {
    /// The version of the last `eunomia_prepare`, until it is flipped or aborted. It refers to `vm`.
    pub(super) prepared: Mutex<Option<Prepared<'static>>>,
    pub(super) vm: Vm,
    /// Receives what the vm itself can no longer log.
    log: Log,
    /// The result of the last replace, which any thread may have called.
    pub(super) replaced: Mutex<Replacement>,
    entrance: Entrance,
}

/// A set of vms that one thread polls. Created by eunomia_group_new, freed by eunomia_group_destroy.
pub struct eunomia_group {
    pub(super) group: Group,
    entrance: Entrance,
}

/// An object that C has a pointer to.
pub(super) trait Handle {
    /// The state through which calls enter it.
    fn entrance(&self) -> &Entrance;
    /// Logs a panic.
    fn log_panic(&self, _panic: &str) {}
}

/// How calls enter a handle: one thread at a time, and none after a panic.
#[derive(Default)]
pub(super) struct Entrance {
    /// The thread that is inside a call; 0 for none.
    user: AtomicUsize,
    poisoned: AtomicBool,
    /// Used only by the thread in `user` and never across a callback, so the lock is always free.
    state: Mutex<CallState>,
    /// The last failure of each thread whose last failed call took no turn.
    aside: Mutex<Vec<(usize, LastError)>>,
}

/// The data that a vm keeps for its caller between two calls.
#[derive(Default)]
pub(super) struct CallState {
    pub(super) error: LastError,
    /// Keeps strings alive until the caller's next call.
    returned: Returned,
}

/// The result of a replace, and the string that reports it.
#[derive(Default)]
pub(super) struct Replacement {
    pub(super) report: Option<Replaced>,
    pub(super) text: CString,
}

/// The last failed call, as `eunomia_errmsg` and similar functions report it.
#[derive(Default)]
pub(super) struct LastError {
    pub(super) message: CString,
    pub(super) detail: CString,
    pub(super) errno: c_int,
    pub(super) kind: eunomia_subject,
    pub(super) subject: CString,
}

impl LastError {
    pub(super) fn new(error: Error) -> LastError {
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
    Batch(Batch),
    Prog(ProgInfo),
    Exported(CString, Vec<c_int>),
}

/// Permission to be inside a call. The outermost call of a thread gives it back.
pub(super) struct Turn<'a>(Option<&'a Entrance>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(entrance) = self.0 {
            entrance.user.store(0, Release);
        }
    }
}

impl Entrance {
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

    /// Returns the last error and the strings that are kept for the caller. Only the thread that has the turn may call it.
    pub(super) fn state(&self) -> MutexGuard<'_, CallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores `error` for `eunomia_errmsg` and returns its status.
    pub(super) fn store_error(&self, error: Error) -> Status {
        let status = error.status();
        self.forget_aside();
        self.state().error = LastError::new(error);
        status
    }

    /// Stores the error of a call that took no turn. Only this thread gets it.
    pub(super) fn store_aside(&self, error: LastError) {
        self.forget_aside();
        self.aside().push((this_thread(), error));
    }

    /// Reads the last error of this thread if the call took no turn.
    pub(super) fn read_aside<T>(&self, read: impl Fn(&LastError) -> T) -> Option<T> {
        let me = this_thread();
        self.aside().iter().find(|(thread, _)| *thread == me).map(|(_, error)| read(error))
    }

    fn forget_aside(&self) {
        let me = this_thread();
        self.aside().retain(|(thread, _)| *thread != me);
    }

    fn aside(&self) -> MutexGuard<'_, Vec<(usize, LastError)>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the flag that is set after a panic, which leaves the object unusable.
    pub(super) fn poisoned(&self) -> &AtomicBool {
        &self.poisoned
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Relaxed)
    }
}

impl Handle for eunomia_vm {
    fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    fn log_panic(&self, panic: &str) {
        self.log_error(panic);
    }
}

impl Handle for eunomia_group {
    fn entrance(&self) -> &Entrance {
        &self.entrance
    }
}

impl AsVm for eunomia_vm {
    fn vm(&self) -> &Vm {
        &self.vm
    }
}

impl eunomia_group {
    pub(super) fn new(group: Group) -> eunomia_group {
        eunomia_group { group, entrance: Entrance::default() }
    }
}

impl eunomia_vm {
    pub(super) fn new(vm: Vm, log: Log) -> eunomia_vm {
        let (prepared, replaced) = (Mutex::default(), Mutex::default());
        eunomia_vm { prepared, vm, log, replaced, entrance: Entrance::default() }
    }

    /// Drops the prepared version, which refers to the vm.
    pub(super) fn give_up(&self) {
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(prepared);
    }

    /// Keeps what a struct's strings point to until the next call.
    pub(super) fn keep(&self, returned: Returned) {
        self.entrance.state().returned = returned;
    }

    /// Keeps `text` until the next call and returns it as a C string.
    pub(super) fn keep_string(&self, text: String) -> *const c_char {
        let text = c_string(text);
        let start = text.as_ptr(); // on the heap, so moving the owner does not move it
        self.keep(Returned::String(text));
        start
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
