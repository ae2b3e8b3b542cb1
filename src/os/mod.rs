//! Safe wrappers of the system calls that the standard library lacks.
//!
//! They call the C library, not the kernel: the fault tests (tests/data/c/fail.h) and the thread sanitizer of a host replace its
//! functions.
#![allow(
    unsafe_code,
    reason = "the system calls themselves; nothing outside this directory sees a raw pointer"
)]

mod clock;
mod descriptor;
mod errno;
mod file;
mod kernel;
mod memory;
mod net;
#[cfg(packed_relocations)]
mod relocate;
mod thread;
mod wait;

pub use clock::{boot_time, clock, local_time, monotonic_ns};
pub use descriptor::{LowNumbers, duplicate, take_low_numbers, try_descriptors};
pub use errno::{Errno, Result, check};
pub use file::{
    directory_names, memory_file, open_beneath, read, read_directory, read_file, read_text, write,
};
pub use kernel::{
    capabilities, in_initial_user_namespace, kernel, kernel_version, online_cpus, random, wait_for_programs,
};
pub use memory::{KernelFile, available_memory, find, page_size, try_memory};
pub use net::{interface_index, interface_name};
pub use thread::Thread;
pub use wait::{Again, Epoll, EventFd, TimerFd, poll_timeout, wait_readable};
