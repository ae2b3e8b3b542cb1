//! From objects and comments to metadata: which annotations belong to what, which types events have, which programs are
//! alternatives of each other.

pub mod alternatives;
pub mod doc_comment;
pub mod events;
pub mod exports;
pub mod limits;
pub mod members;
pub mod metadata;
pub mod record_type;
pub mod register_values;
pub mod send_calls;
