//! The one way into a vm from C: not null, one thread at a time, not dead, no panic out, the error kept.

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{MutexGuard, PoisonError};

use super::args::c_string;
use super::panic;
use super::types::{eunomia_status, eunomia_subject, eunomia_vm};
use crate::error::{Error, Failure, Result, Status, Subject};
use crate::log::Level;
use crate::vm::{Kind, MapInfo, ProgInfo, SourceInfo};

/// What a vm remembers between two calls for its caller.
#[derive(Default)]
pub(super) struct CallState {
    pub(super) error: LastError,
    /// Held so that the caller can borrow from it until its next call.
    pub(super) lent: Lent,
}

/// The last failed call, as `eunomia_errmsg` and its siblings tell it.
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
        let Failure { subject, detail, errno, .. } = error.into_failure();
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

/// Owner of the strings given out last.
#[derive(Default)]
#[allow(dead_code, reason = "held, not read")]
pub(super) enum Lent {
    #[default]
    Nothing,
    Text(CString),
    Map(MapInfo),
    Source(SourceInfo),
    Prog(ProgInfo),
}

/// Runs `call` for the thread whose turn it is and answers its result as a status.
///
/// # Safety
/// `vm` is null or lives until the return.
pub(super) unsafe fn guard<R: Answer>(
    vm: *const eunomia_vm,
    call: impl FnOnce(&eunomia_vm) -> Result<R>,
) -> c_int {
    // SAFETY: as demanded above.
    unsafe { guarded(vm, &mut once(call)) }
}

/// The body of `guard`, in the library once instead of once per function.
///
/// # Safety
/// As for [`guard`].
unsafe fn guarded(vm: *const eunomia_vm, call: &mut Call<'_>) -> c_int {
    // SAFETY: as demanded above.
    let Some(vm) = (unsafe { vm.as_ref() }) else { return Status::Inval as c_int };
    let Some(_turn) = vm.enter() else { return Status::Busy as c_int };
    if vm.poisoned.load(Relaxed) {
        return Status::Internal as c_int;
    }
    vm.settle(panic::catch(|| call(vm)))
}

/// The work of one C function, with its result as C gets it.
type Call<'a> = dyn FnMut(&eunomia_vm) -> Result<c_int> + 'a;

/// Makes a closure that is called once callable through a reference.
fn once<R: Answer>(call: impl FnOnce(&eunomia_vm) -> Result<R>) -> impl FnMut(&eunomia_vm) -> Result<c_int> {
    let mut call = Some(call);
    move |vm| call.take().map_or(Ok(0), |call| call(vm).map(Answer::answer))
}

/// Runs `call` for any thread at any time. No turn is taken, so errmsg stays as it is: another thread may
/// be reading it.
///
/// # Safety
/// `vm` is null or lives until the return.
pub(super) unsafe fn any_thread<R: Answer>(
    vm: *const eunomia_vm,
    call: impl FnOnce(&eunomia_vm) -> Result<R>,
) -> c_int {
    // SAFETY: as demanded above.
    unsafe { unguarded(vm, &mut once(call)) }
}

/// The body of `any_thread`.
///
/// # Safety
/// As for [`guard`].
unsafe fn unguarded(vm: *const eunomia_vm, call: &mut Call<'_>) -> c_int {
    // SAFETY: as demanded above.
    let Some(vm) = (unsafe { vm.as_ref() }) else { return Status::Inval as c_int };
    match panic::catch(|| call(vm)) {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => error.status as c_int,
        Err(text) => vm.poison(&text) as c_int,
    }
}

/// A result that C gets as a number from 0 up.
pub(super) trait Answer {
    fn answer(self) -> c_int;
}

impl Answer for () {
    fn answer(self) -> c_int {
        eunomia_status::EUNOMIA_OK as c_int
    }
}

impl Answer for usize {
    fn answer(self) -> c_int {
        c_int::try_from(self).unwrap_or(c_int::MAX)
    }
}

impl Answer for bool {
    fn answer(self) -> c_int {
        c_int::from(self)
    }
}

impl Answer for Kind {
    fn answer(self) -> c_int {
        self as c_int
    }
}

/// The right to be inside a call; the outermost call of a thread gives it back.
pub(super) struct Turn<'a>(Option<&'a eunomia_vm>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(vm) = self.0 {
            vm.user.store(0, Release);
        }
    }
}

impl eunomia_vm {
    /// A turn, unless another thread has it. A callback calls on the turn of the poll it runs in.
    pub(super) fn enter(&self) -> Option<Turn<'_>> {
        let me = this_thread();
        match self.user.compare_exchange(0, me, Acquire, Relaxed) {
            Ok(_) => Some(Turn(Some(self))),
            Err(user) => (user == me).then_some(Turn(None)),
        }
    }

    /// What is kept for the caller. Only for the thread that has the turn.
    pub(super) fn state(&self) -> MutexGuard<'_, CallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `lent` until the next string is given out.
    pub(super) fn lend(&self, lent: Lent) {
        self.state().lent = lent;
    }

    /// Lends `text`; valid until the next call.
    pub(super) fn lend_text(&self, text: String) -> *const c_char {
        let text = c_string(text);
        let start = text.as_ptr(); // of the heap, so moving the owner keeps it
        self.lend(Lent::Text(text));
        start
    }

    /// Marks the vm dead and says so in its log.
    fn poison(&self, text: &str) -> Status {
        self.poisoned.store(true, Relaxed);
        self.log.write(Level::Error, text);
        Status::Internal
    }

    /// Turns the end of a call into its status. A vm that died in a callback is past more errors.
    fn settle(&self, end: Result<Result<c_int>, String>) -> c_int {
        match end {
            Ok(Ok(done)) => done,
            Ok(Err(_)) if self.poisoned.load(Relaxed) => Status::Internal as c_int,
            Ok(Err(error)) => self.keep(error),
            Err(text) => self.keep(Error::new(self.poison(&text), text)),
        }
    }

    /// Keeps `error` for `eunomia_errmsg`.
    fn keep(&self, error: Error) -> c_int {
        let status = error.status as c_int;
        self.state().error = LastError::new(error);
        status
    }
}

/// A number for the calling thread that no other living thread has.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| ptr::from_ref(here).addr())
}
