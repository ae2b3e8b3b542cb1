//! The fields of raw records, by name: conditions on them and their text.
//!
//! A record is the bytes that the kernel wrote; its [`Type`](eunomia::types::Type) has the positions of the fields. [`Filter`] decides
//! which records are shown, [`Column`](column::Column) formats one field, and [`Entries`] converts the entries of a map to records.

pub mod column;
pub mod field;
pub mod record_clock;

mod entries;
mod error;
mod filter;

pub use entries::Entries;
pub use error::{Error, Result};
pub use filter::Filter;
