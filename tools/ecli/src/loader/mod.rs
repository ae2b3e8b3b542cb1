//! The process that loads the package of `ecli run --reload` and `--watch-package`, attaches it and replaces it.
//!
//! It keeps the privileges for that. The process that shows the events has none: it gets the descriptors for reading them, reads
//! or downloads new versions, and requests the changes. The messages are those of the loader of `ecli server`. The programs are
//! attached as long as the loader runs, and it ends when the other process ends.

mod child;
mod client;

use eunomia_agent::loader::protocol;

use crate::error::{Code, Failure};

pub use child::{ARGUMENT, serve};
pub use client::Loader;

/// The number of the only task.
const TASK: u64 = 1;

/// The exit codes that a message can have.
const CODES: [Code; 6] =
    [Code::Failed, Code::Usage, Code::Source, Code::Privilege, Code::Kernel, Code::Output];

/// Converts a failure for a message. Its status is the exit code.
fn to_message(failure: Failure) -> protocol::Failure {
    protocol::Failure {
        status: failure.code as i32,
        message: failure.text().to_owned(),
        detail: failure.shown_detail().join("\n"),
        hint: String::new(),
    }
}

/// Converts a failure from a message.
fn from_message(failure: &protocol::Failure) -> Failure {
    let code = CODES.into_iter().find(|code| *code as i32 == failure.status);
    Failure::new(code.unwrap_or(Code::Failed), &failure.message).with_detail(&failure.detail)
}
