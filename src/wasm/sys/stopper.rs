//! Ends a guest from another thread.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wamr_sys as w;

unsafe extern "C" {
    fn wasm_cluster_cancel_thread(env: w::wasm_exec_env_t) -> i32;
}

/// Ends a guest from another thread.
#[derive(Default)]
pub struct Stopper {
    env: Mutex<Env>,
    /// Why the guest was stopped, a number chosen by the caller of `stop`; 0: it was not.
    cause: AtomicU32,
}

/// The execution environment of the instance while there is one.
#[derive(Default)]
struct Env(Option<NonNull<w::WASMExecEnv>>);

// SAFETY: other threads use the pointer only under the lock, to set a flag that is meant to be set by other threads.
unsafe impl Send for Env {}

impl Stopper {
    /// Makes the guest leave its code at the next branch or call. Only the first call has an effect.
    pub fn stop(&self, cause: u32) {
        let env = self.lock();
        if self.cause.compare_exchange(0, cause, SeqCst, SeqCst).is_err() {
            return;
        }
        if let Some(env) = env.0 {
            // SAFETY: the instance removes the pointer, under the lock, before it is freed. WAMR's own "terminate" cannot be
            // used: it walks the guest's stack while the guest changes it.
            unsafe { wasm_cluster_cancel_thread(env.as_ptr()) };
        }
    }

    /// Returns why the guest was stopped; 0: it was not.
    pub fn cause(&self) -> u32 {
        self.cause.load(SeqCst)
    }

    /// Sets the environment to stop: that of an instance, or none before that instance is freed.
    pub(super) fn set_env(&self, env: w::wasm_exec_env_t) {
        self.lock().0 = NonNull::new(env);
    }

    fn lock(&self) -> MutexGuard<'_, Env> {
        self.env.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
