//! BTF: the debug information in which programs and kernels describe their C types.
//!
//! This part reads raw `.BTF` and `.BTF.ext` sections, and writes BTF with a selection of types. The part `types`
//! determines the layout of values. All input is untrusted: nothing panics, recurses or grows without a limit.

mod check;
mod event_candidates;
mod excerpt;
mod reader;
mod relocation;

pub use excerpt::{Excerpt, Hook, Index};
pub use reader::{Btf, Global};
pub(crate) use reader::{BtfKind, Entry, Part};
pub use relocation::{Query, Relocation, relocations};
