//! Programs that a package runs without, summed up: one line for each cause, however many programs have it.

use crate::error::Error;
use crate::log::{Level, Log};

/// Causes that get a line of their own.
const MOST: usize = 16;

/// The causes, each with the number of programs that have it.
pub struct Skipped<'a> {
    causes: Vec<(&'a Error, usize)>,
    /// Number of all programs.
    count: usize,
}

impl Skipped<'_> {
    /// Of `count` programs those with these causes are skipped, variants counted as one.
    pub fn new(all: Vec<&Error>, count: usize) -> Skipped<'_> {
        let mut causes: Vec<(&Error, usize)> = Vec::new();
        for cause in all {
            let is_full = causes.len() == MOST;
            match causes.iter_mut().find(|(known, _)| known.reason() == cause.reason()) {
                Some((_, programs)) => *programs += 1,
                None if is_full => causes[MOST - 1].1 += 1,
                None => causes.push((cause, 1)),
            }
        }
        Skipped { causes, count }
    }

    /// Says so.
    pub fn log(&self, log: &Log) {
        for (cause, programs) in &self.causes {
            let line = match (programs, &cause.subject) {
                (1, Some(subject)) => format!("{subject} is skipped: {}", cause.reason()),
                _ => format!("{programs} of {} programs are skipped: {}", self.count, cause.reason()),
            };
            log.write(Level::Warn, &line);
        }
    }

    /// The error where what is left can do nothing.
    pub fn error(&self, left: &str) -> Error {
        let (last, programs) = self.causes[self.causes.len() - 1];
        if self.causes.len() == 1 && programs == 1 {
            return last.clone().with_reason(format_args!("{}{left}", last.reason()));
        }
        let said = |(cause, programs): &(&Error, usize)| {
            format!("{}: {programs} of {} programs cannot attach", cause.reason(), self.count)
        };
        let text = self.causes.iter().map(said).collect::<Vec<_>>().join("; ");
        Error::sys(last.status, last.errno, text + left).with_detail(&last.detail)
    }
}
