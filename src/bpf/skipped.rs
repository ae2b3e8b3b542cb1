//! Summarizes skipped programs: one line for each cause, however many programs have it.

use crate::error::Error;
use crate::log::{Level, Log};

/// Maximum number of lines.
const MAX_CAUSES: usize = 16;

/// Causes with the number of programs that have them.
pub struct Skipped<'a> {
    causes: Vec<(&'a Error, usize)>,
    /// Number of all programs.
    count: usize,
}

impl Skipped<'_> {
    /// Groups the causes. `count` is the number of all programs; alternatives count as one.
    pub fn new(all: Vec<&Error>, count: usize) -> Skipped<'_> {
        let mut causes: Vec<(&Error, usize)> = Vec::new();
        for cause in all {
            let is_full = causes.len() == MAX_CAUSES;
            match causes.iter_mut().find(|(known, _)| known.reason() == cause.reason()) {
                Some((_, programs)) => *programs += 1,
                None if is_full => causes[MAX_CAUSES - 1].1 += 1,
                None => causes.push((cause, 1)),
            }
        }
        Skipped { causes, count }
    }

    /// Logs one warning for each cause.
    pub fn log(&self, log: &Log) {
        for (cause, programs) in &self.causes {
            let line = match (programs, &cause.subject()) {
                (1, Some(subject)) => format!("{subject} is skipped: {}", cause.reason()),
                _ => format!("{programs} of {} programs are skipped: {}", self.count, cause.reason()),
            };
            log.write(Level::Warn, &line);
        }
    }

    /// The error if the remaining programs are of no use. `left` is appended to it.
    pub fn error(&self, left: &str) -> Error {
        let (last, programs) = self.causes[self.causes.len() - 1];
        if self.causes.len() == 1 && programs == 1 {
            return last.clone().with_reason(format_args!("{}{left}", last.reason()));
        }
        let line = |(cause, programs): &(&Error, usize)| {
            format!("{}: {programs} of {} programs cannot attach", cause.reason(), self.count)
        };
        let text = self.causes.iter().map(line).collect::<Vec<_>>().join("; ");
        Error::sys(last.status(), last.errno().unwrap_or(0), text + left).with_detail(last.detail())
    }
}
