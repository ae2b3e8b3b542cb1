//! Whether and when a task that has failed is started again.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::Result;
use crate::spec::expected;

/// The delay before the first attempt. The delay doubles with each further attempt, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// The restart policy of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Only when a request resumes it.
    #[default]
    Never,
    /// If it could not be started again, or its events cannot be read.
    OnFailure,
    /// Also if it was stopped because it has used too much.
    Always,
}

/// All policies, with the words for them.
const ALL: [(Restart, &str); 3] =
    [(Restart::Never, "never"), (Restart::OnFailure, "on-failure"), (Restart::Always, "always")];

impl Restart {
    /// Reads the word for a policy.
    pub fn from_json(value: &Value) -> Result<Restart> {
        let found = ALL.iter().find(|(_, word)| value == word).map(|(restart, _)| *restart);
        match value {
            Value::Null => Ok(Restart::default()),
            _ => found.ok_or_else(|| expected("restart", "\"never\", \"on-failure\" or \"always\"", value)),
        }
    }

    /// Returns the word for the policy.
    pub fn word(self) -> &'static str {
        ALL.iter().find(|(restart, _)| *restart == self).map_or("", |(_, word)| word)
    }
}

/// The attempts to start a task again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempts {
    /// The number of attempts since the task last ran for a while.
    count: u32,
    /// The time of the last attempt.
    last: Option<Instant>,
}

impl Attempts {
    /// Returns the time of the next attempt for a task whose failure was noticed at `since`.
    pub fn next(&self, since: Instant) -> Instant {
        self.last.unwrap_or(since).max(since) + FIRST.saturating_mul(1 << self.count.min(16)).min(LONGEST)
    }

    /// Counts an attempt.
    pub fn note(&mut self, now: Instant) {
        (self.count, self.last) = (self.count + 1, Some(now));
    }

    /// Returns the number of the last attempt.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Resets the attempts if the task has run for [`LONGEST`] since the last one.
    pub fn forget_old(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) >= LONGEST) {
            *self = Attempts::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attempts_become_rarer_until_the_task_has_run_for_a_while() {
        let (begin, mut attempts) = (Instant::now(), Attempts::default());
        let mut now = begin;
        let mut delays = Vec::new();
        for _ in 0..12 {
            let next = attempts.next(now);
            delays.push((next - now).as_secs());
            now = next;
            attempts.note(now);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        attempts.forget_old(now + Duration::from_secs(299));
        assert_eq!(attempts.count(), 12);
        attempts.forget_old(now + LONGEST);
        assert_eq!((attempts.count(), (attempts.next(now) - now).as_secs()), (0, 1));
    }

    #[test]
    fn the_words_are_read_as_they_are_written() {
        for (restart, word) in ALL {
            assert_eq!((Restart::from_json(&json!(word)), restart.word()), (Ok(restart), word));
        }
        assert_eq!(Restart::from_json(&Value::Null), Ok(Restart::Never));
        let text = Restart::from_json(&json!("often")).unwrap_err().message;
        assert_eq!(text, "restart: expected \"never\", \"on-failure\" or \"always\", found \"often\"");
    }
}
