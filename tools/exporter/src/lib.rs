//! The exporter: runs packages and exposes what they count to Prometheus.
//!
//! [`config`] is what the user has written. The [`engine`] starts programs through the loader of eunomia-agent, which has the
//! privileges; this process has none. A [`program`] reads events and maps into the series of its metrics, and [`expose`] writes these
//! as text. [`api`] handles requests.

pub mod access;
pub mod api;
pub mod change;
pub mod commands;
pub mod config;
pub mod dashboard;
pub mod engine;
pub mod expose;
pub mod format;
pub mod histogram;
pub mod import;
pub mod itself;
pub mod labels;
pub mod largest;
pub mod logs;
pub mod lookup;
pub mod metric;
pub mod native;
pub mod otlp;
pub mod package;
pub mod program;
pub mod push;
pub mod scraper;
pub mod series;
pub mod server;
pub mod source;
pub mod unit;
pub mod web;

/// Prints a line to stderr. It is not an error if nobody reads it.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
