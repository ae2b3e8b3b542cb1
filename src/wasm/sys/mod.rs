//! The only files that call WAMR, and C's `snprintf` for guests. Raw pointers stay inside: what leaves these files is
//! copied or checked.
#![allow(unsafe_code, reason = "WAMR is C; each file keeps its pointers to itself")]

mod allocator;
pub mod guest;
pub mod instance;
pub mod module;
pub mod number;
pub mod runtime;
pub mod signature;
pub mod stopper;
