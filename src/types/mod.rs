//! The type graph: what a value looks like in memory, and how values are set from JSON and text.
//!
//! Types are built from BTF, or from the C text of old packages. Nothing here depends on the kernel or on the origin of a
//! record. All input is untrusted: nothing panics, recurses or grows without a limit.

mod ctype;
mod encode;
mod format;
mod from_btf;
mod layout;
mod member_format;
mod names;

pub use encode::{encode, encode_over, parse_text};
pub use format::ValueFormat;
pub use layout::{Field, Kind, Name, Type};
pub use member_format::{MemberFormats, NO_STRUCT};
