//! Threads of the library.

use std::ffi::{CStr, c_void};

use super::errno::{Errno, Result};

/// A thread of the library. It blocks all signals, so that a host's handlers keep running on the host's threads. Dropping
/// it waits for its end. (`std::thread` supports names, results and guard pages, which would add 15 kB to the library.)
pub struct Thread {
    thread: libc::pthread_t,
    /// The process that started it. In a child of fork the thread does not run.
    owner: u32,
}

type Body = Box<dyn FnOnce() + Send>;

impl Thread {
    /// Starts a thread that runs `body`. The name has at most 15 bytes.
    pub fn spawn(name: &CStr, body: Body) -> Result<Thread> {
        let body = Box::into_raw(Box::new(body));
        // SAFETY: the sets and the thread live for the calls. The new thread inherits the signal mask of this one, which is
        // restored. `run_body` takes ownership of `body`; if no thread was created, this function takes it back.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            let mut thread: libc::pthread_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
            let ret = libc::pthread_create(&mut thread, std::ptr::null(), run_body, body.cast());
            libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
            if ret != 0 {
                drop(Box::from_raw(body));
                return Err(Errno(ret));
            }
            libc::pthread_setname_np(thread, name.as_ptr());
            Ok(Thread { thread, owner: std::process::id() })
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // SAFETY: joined only here, and never detached.
            unsafe { libc::pthread_join(self.thread, std::ptr::null_mut()) };
        }
    }
}

extern "C" fn run_body(body: *mut c_void) -> *mut c_void {
    // SAFETY: `Thread::spawn` passes ownership of the box.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    // The panic hook has already printed the message. The owner of the thread sees that the work is not done.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    std::ptr::null_mut()
}
