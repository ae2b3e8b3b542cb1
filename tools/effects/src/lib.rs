//! What an eBPF program could do, by its instructions.
//!
//! There are two ways to its [`Code`]: [`Object::code`] links an object's functions as libbpf would, without a kernel and
//! without privileges; [`Code::of_loaded`] takes the instructions that the kernel got. [`Findings::of`] then says what the
//! program calls and what that, its results and its writes could do.
//!
//! The lists are of what is harmless: a helper, a function of the kernel or a type of program that they do not have is
//! named as "other". Nothing of the object is believed; what cannot be followed counts as possible, and is said to be.
//! All work is bounded by the size of the object.

pub mod names;

mod calls;
mod code;
mod elf;
mod flow;
mod helpers;
mod instruction;
mod kfuncs;
mod link;
mod results;
mod value;
mod writes;

pub use calls::{Findings, Program};
pub use code::{Code, Loaded, Reference};
pub use elf::len as object_len;
pub use helpers::is_harmless as is_harmless_helper;
pub use instruction::{BYTES, Instruction};
pub use kfuncs::is_harmless as is_harmless_kfunc;
pub use link::Object;
