//! BTF to values: the type graph of a package and the plans that render its records.
//!
//! Pure: no I/O, no unsafe, nothing of the kernel or of where a record came from.
//! What is read here (BTF, records, JSON) comes from outside: nothing panics, recurses or grows without a limit.

pub mod btf;
mod candidate;
mod check;
mod ctype;
pub mod encode;
mod excerpt;
pub mod format;
pub mod json;
pub mod layout;
mod names;
mod notation;
mod out;
pub mod plan;
mod relocation;
pub mod text;

pub use btf::Btf;
pub use encode::{encode, encode_over, parse_text};
pub use excerpt::{Excerpt, Hook, Index};
pub use format::{NO_STRUCT, ValueFormat};
pub use json::hex_json;
pub use layout::{Field, Kind, Name, Type};
pub use notation::set_boot_time;
pub use plan::Plan;
pub use relocation::{Relocation, relocations};
pub use text::{hex_header, hex_text, linear_hist, log2_hist};
