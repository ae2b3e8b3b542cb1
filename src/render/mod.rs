//! Writes records as JSON, table rows and histograms.
//!
//! A type is compiled once to a [`Plan`], which then writes any number of records. Records are untrusted: nothing panics or
//! writes more than a limit.

mod clock;
mod compile;
mod enum_value;
mod format_value;
mod histogram;
mod json;
mod out;
mod plan;
mod run;
mod steps;
mod table;

pub use clock::Clock;
pub use histogram::{linear_hist, log2_hist};
pub use json::hex_json;
pub use plan::Plan;
pub use table::{hex_header, hex_text};
