//! Threads of our own.

use std::ffi::{CStr, c_void};

use super::errno::{Errno, Result};

/// A thread of ours. It takes no signals: a host's handlers keep running on the host's threads. Dropping this waits for
/// its end. (One of std's brings names, results and guard pages along, 15 kB of the library.)
pub struct Thread {
    thread: libc::pthread_t,
    /// The process it is of: a child of fork has only the memory of it.
    owner: u32,
}

type Body = Box<dyn FnOnce() + Send>;

impl Thread {
    /// Starts `body` under a name of at most 15 bytes.
    pub fn spawn(name: &CStr, body: Body) -> Result<Thread> {
        let body = Box::into_raw(Box::new(body));
        // SAFETY: the sets and the thread live for the calls; a new thread inherits the mask of its maker, which gets
        // its own back. `run_body` takes `body`, unless there is no thread: then it is taken back here.
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
            // SAFETY: joined here only, and nothing detaches it.
            unsafe { libc::pthread_join(self.thread, std::ptr::null_mut()) };
        }
    }
}

extern "C" fn run_body(body: *mut c_void) -> *mut c_void {
    // SAFETY: `Thread::spawn` gave the box away.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    // What a panic has to say is printed by now; who waits for this thread finds its work undone.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    std::ptr::null_mut()
}
