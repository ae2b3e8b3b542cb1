//! Panics end here: caught, put into words, and kept off the host's stderr.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::ptr;
use std::sync::Once;

/// Text of a panic, written by the hook for the `catch` below it on the stack.
type Note = RefCell<String>;

thread_local! {
    /// Note of the innermost `catch` of this thread. Has no destructor, so a thread may end at any time.
    static CURRENT: Cell<*const Note> = const { Cell::new(ptr::null()) };
}

/// Runs `call`; a panic becomes a line that tells what and where.
pub(super) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    install_hook();
    let note = Note::default();
    let outer = CURRENT.replace(&note);
    // What a panic leaves half done is not used again: the vm is poisoned.
    let end = panic::catch_unwind(AssertUnwindSafe(call));
    CURRENT.set(outer);
    end.map_err(|_payload| note.into_inner())
}

/// Replaces std's hook, which prints, by one that is silent on a thread that is inside `catch`.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !take_note(info) {
                previous(info)
            }
        }));
    });
}

/// Writes the panic down for this thread's `catch`, if there is one.
fn take_note(info: &PanicHookInfo<'_>) -> bool {
    // SAFETY: not null only while the `catch` that owns the note is on this thread's stack.
    let note = unsafe { CURRENT.get().as_ref() };
    note.inspect(|note| *note.borrow_mut() = describe(info)).is_some()
}

/// `panic at FILE:LINE: TEXT`.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let literal = payload.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic at {place}: {}", text.unwrap_or("no text"))
}
