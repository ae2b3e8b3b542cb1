//! From objects and comments to metadata: the annotations of each declaration, the types of events, and the programs that
//! are alternatives of each other.
//!
//! `send_calls.rs` finds what the compiled code sends; `events.rs` selects the event types; `metadata.rs` builds the result.

pub mod alternatives;
pub mod annotations;
mod doc_comment;
pub mod events;
mod evidence;
pub mod exports;
mod function;
mod helper_numbers;
pub mod limits;
pub mod members;
pub mod metadata;
mod origin;
mod record_type;
mod register_values;
pub mod send_calls;
