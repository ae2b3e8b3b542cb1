//! Catches panics, describes them in one line and keeps them off the host's stderr.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::ptr;
use std::sync::Once;

/// Description of a panic, written by the hook for the innermost `catch` on the stack. It is in a
/// box, so that freeing an empty note takes only one comparison.
type Note = Cell<Option<Box<String>>>;

thread_local! {
    /// The note of this thread's innermost `catch`. It has no destructor, so the thread may end at any time.
    static CURRENT: Cell<*const Note> = const { Cell::new(ptr::null()) };
}

/// Runs `call` and turns a panic into a line with its message and, if it is known, its location.
pub(super) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    install_hook();
    let note = Note::default();
    let outer = CURRENT.replace(&note);
    // State that a panic leaves inconsistent is not used again: the vm is poisoned.
    let end = panic::catch_unwind(AssertUnwindSafe(call));
    CURRENT.set(outer);
    end.map_err(|_payload| note.take().map_or_else(String::new, |text| *text))
}

/// Replaces std's hook, which prints, with one that is silent on threads inside `catch`.
#[inline(always)]
fn install_hook() {
    static ONCE: Once = Once::new();
    if !ONCE.is_completed() {
        ONCE.call_once(replace_hook);
    }
}

#[cold]
fn replace_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !take_note(info) {
            previous(info)
        }
    }));
}

/// Writes the panic to the note of this thread's `catch`, and returns whether there is one.
fn take_note(info: &PanicHookInfo<'_>) -> bool {
    // SAFETY: not null only while the `catch` that owns the note is on this thread's stack.
    let note = unsafe { CURRENT.get().as_ref() };
    note.inspect(|note| note.set(Some(Box::new(describe(info))))).is_some()
}

/// `panic at FILE:LINE:COLUMN: TEXT`, or `panic: TEXT` in a release, which has no locations (tools/build-release.sh).
fn describe(info: &PanicHookInfo<'_>) -> String {
    let location = info.location().filter(|_| !cfg!(small));
    let location = location.map(|location| format!(" at {location}")).unwrap_or_default();
    let payload = info.payload();
    let literal = payload.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic{location}: {}", text.unwrap_or("no message"))
}
