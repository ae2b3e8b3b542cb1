//! Finds out what an eBPF program could do, from its instructions.
//!
//! [`Object::code`] links the functions of an object as libbpf does, without a kernel and without privileges.
//! [`Code::of_loaded`] uses the instructions of a loaded program. [`Findings::of`] reports what the program calls and which
//! effects its calls, results and writes could have.
//!
//! The lists contain what is harmless. An unknown helper, kernel function or program type is reported as "other". The object
//! is not trusted: what cannot be followed is reported as possible. The work is bounded by the size of the object.

pub mod names;

mod code;
mod data_flow;
mod elf;
mod findings;
mod helpers;
mod instruction;
mod kfuncs;
mod link;
mod loaded;
mod pinned_maps;
mod return_values;
mod value;
mod writes;

pub use code::{Code, Loaded, Reference};
pub use elf::len as object_len;
pub use findings::{Findings, Program, class};
pub use helpers::is_harmless as is_harmless_helper;
pub use instruction::{BYTES, Instruction};
pub use kfuncs::is_harmless as is_harmless_kfunc;
pub use link::Object;
pub use loaded::{Effects, Judged, KernelTypes, judge};
pub use pinned_maps::PinnedMaps;
