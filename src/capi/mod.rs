//! The C interface: every function of `include/eunomia.h`, each a thin wrapper of a method of [`Vm`].
//!
//! This module adds what C needs: null checks, one thread at a time, caught panics, errors stored for
//! `eunomia_errmsg`, strings that stay valid until the next call. It must not decide anything else. The documentation
//! of its items becomes the header.
//!
//! [`Vm`]: crate::vm::Vm

#![allow(non_camel_case_types)] // the C spelling
#![allow(clippy::missing_safety_doc)] // the front page of the header has the rules for all functions

mod args;
mod events;
mod export;
#[cfg(feature = "faults")]
mod faults;
mod group;
mod guard;
mod handle;
mod introspect;
mod last_error;
mod lifecycle;
mod maps;
mod panic;
mod phases;
mod replace;
mod status;
mod test_run;
mod types;
mod variables;
mod version;
mod wasm;

pub use events::*;
pub use export::*;
#[cfg(feature = "faults")]
pub use faults::*;
pub use group::*;
pub use handle::{eunomia_group, eunomia_vm};
pub use introspect::*;
pub use last_error::*;
pub use lifecycle::*;
pub use maps::*;
pub use phases::*;
pub use replace::*;
pub use status::eunomia_status;
pub use test_run::*;
pub use types::*;
pub use variables::*;
pub use version::*;
pub use wasm::*;

#[cfg(panic = "abort")]
compile_error!("feature `capi` turns panics into EUNOMIA_ERR_INTERNAL and needs panic = \"unwind\"");
