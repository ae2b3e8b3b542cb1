//! The two ways to lock: for a moment, and only if nobody else has the lock.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::error::{Error, Result, Status};

/// Locks for a short time. A panic under the lock has been reported already, and the guarded data is consistent.
#[cfg_attr(small, optimize(speed))]
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks without waiting; `Err(Busy)` if the lock is taken.
#[inline(always)]
pub fn try_locked<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    mutex.try_lock().map_err(|e| refused(matches!(e, TryLockError::WouldBlock)))
}

#[cold]
fn refused(is_busy: bool) -> Error {
    match is_busy {
        true => Error::new(
            Status::Busy,
            "the vm is in use, by another thread or by the poll this call comes from",
        ),
        false => poisoned(),
    }
}

/// Returns the error for a lock that was held during a panic.
pub fn poisoned() -> Error {
    Error::new(
        Status::Internal,
        "the vm is unusable after an internal error (panic) in an earlier call; destroy it",
    )
}
