//! The type graph: the layout of a value in memory. Also converts JSON and text to values.
//!
//! Types are built from BTF, or from the C declarations in old packages. All input is untrusted: nothing panics, recurses
//! or grows without a limit.

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
