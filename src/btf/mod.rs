//! BTF: the debug information from which programs and kernels describe their C types.
//!
//! Reads a raw `.BTF` or `.BTF.ext` section and writes excerpts of one. What a type means for a value is decided in
//! `types`. All input is untrusted: nothing panics, recurses or grows without a limit.

mod candidate;
mod check;
mod excerpt;
mod reader;
mod relocation;

pub use excerpt::{Excerpt, Hook, Index};
pub use reader::{Btf, Global};
pub(crate) use reader::{BtfKind, Entry, Part};
pub use relocation::{Ask, Relocation, relocations};
