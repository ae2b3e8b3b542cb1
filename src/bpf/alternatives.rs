//! Alternative programs, which do the same through different hooks. Of each chain of alternatives, the first one that loads
//! and attaches is used.
//!
//! The only reliable test of what a kernel supports is to try it. This file records the results; the session loads and
//! attaches.

use super::sys::object::ProgRef;
use crate::error::Error;
use crate::log::{Level, Log};
use crate::package::{Meta, NameIndex};

/// The state of each program, in libbpf's order.
pub struct Alternatives(Vec<Alternative>);

struct Alternative {
    name: String,
    /// The program to try after this one.
    next: Option<usize>,
    /// The program to try before this one.
    previous: Option<usize>,
    /// Whether package and host allow it to be loaded.
    wanted: bool,
    /// Whether the package requires it; `None` if the package does not specify that.
    required: Option<bool>,
    /// The reason why it cannot be used on this kernel.
    cause: Option<Error>,
}

impl Alternatives {
    /// Creates the state of all programs. The caller has checked that no chain is a cycle.
    pub fn new<'a>(
        progs: impl Iterator<Item = ProgRef<'a>>,
        meta: &Meta,
        by_name: &NameIndex,
    ) -> Alternatives {
        let (mut alternatives, mut places) = (Vec::new(), NameIndex::default());
        for (index, prog) in progs.enumerate() {
            let name = prog.name().to_string_lossy().into_owned();
            let meta = by_name.get(&name).map(|index| &meta.progs[index]);
            let wanted = meta.and_then(|meta| meta.autoload).unwrap_or(prog.autoload());
            let required = meta.and_then(|meta| meta.required);
            places.insert(&name, index);
            alternatives.push(Alternative {
                name,
                next: None,
                previous: None,
                wanted,
                required,
                cause: None,
            });
        }
        for prog in &meta.progs {
            let next = prog.instead_of.as_ref().and_then(|name| places.get(name));
            if let (Some(index), Some(next)) = (places.get(&prog.name), next) {
                alternatives[index].next = Some(next);
                alternatives[next].previous = Some(index);
            }
        }
        Alternatives(alternatives)
    }

    /// Whether package and host allow a program to be loaded.
    pub fn is_wanted(&self, index: usize) -> bool {
        self.0[index].wanted
    }

    /// Sets whether the host allows a program to be loaded.
    pub fn set_wanted(&mut self, index: usize, on: bool) {
        self.0[index].wanted = on;
    }

    /// Whether the next load includes a program.
    pub fn is_loaded_next(&self, index: usize) -> bool {
        self.0[index].wanted && self.0[index].cause.is_none()
    }

    /// Whether the next load includes any program.
    pub fn is_any_left(&self) -> bool {
        (0..self.0.len()).any(|index| self.is_loaded_next(index))
    }

    /// Why a program is not used; `None` if it is used or was not tried.
    pub fn cause(&self, index: usize) -> Option<&Error> {
        self.0[index].cause.as_ref()
    }

    /// The name of the next alternative.
    pub fn instead_of(&self, index: usize) -> Option<&str> {
        Some(&self.0[self.0[index].next?].name)
    }

    /// Whether another program is tried before this one.
    pub fn is_fallback(&self, index: usize) -> bool {
        self.0[index].previous.is_some()
    }

    /// The first program of the chain that a program belongs to.
    pub fn first(&self, index: usize) -> usize {
        let mut first = index;
        while let Some(previous) = self.0[first].previous {
            first = previous;
        }
        first
    }

    /// A program and its alternatives, in the order of their trials.
    pub fn chain(&self, first: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(first), |index| self.0[*index].next)
    }

    /// The next alternative.
    pub fn next(&self, index: usize) -> Option<usize> {
        self.0[index].next
    }

    /// Whether the package requires a program of a chain.
    pub fn is_required(&self, first: usize) -> bool {
        self.chain(first).any(|index| self.0[index].required == Some(true))
    }

    /// Whether the package specifies which programs it requires.
    pub fn says_required(&self) -> bool {
        self.0.iter().any(|alternative| alternative.required.is_some())
    }

    /// Forgets all results, for a new load.
    pub fn forget(&mut self) {
        self.0.iter_mut().for_each(|alternative| alternative.cause = None);
    }

    /// Records that a program is attached.
    pub fn mark_used(&mut self, index: usize) {
        self.0[index].cause = None;
    }

    /// Records why a program is not used, and logs it if the program has an alternative. Otherwise the caller reports it.
    pub fn note(&mut self, index: usize, cause: &Error, log: &Log) {
        let Alternative { name, next, previous, cause: known, .. } = &mut self.0[index];
        if next.or(*previous).is_some() {
            log.write(Level::Info, &format!("program {name:?} is skipped: {}", cause.reason()));
        }
        *known = Some(cause.clone());
    }

    /// Returns the error of a chain without a usable program: the error of the last program, with the reasons of all.
    pub fn none_left(&self, first: usize, last: Error) -> Error {
        let (mut reasons, mut tried) = (String::new(), 0);
        for index in self.chain(first) {
            if let Alternative { name, cause: Some(cause), .. } = &self.0[index] {
                tried += 1;
                reasons += &format!("; {name:?}: {}", cause.reason());
            }
        }
        if tried < 2 {
            return last;
        }
        let error = Error::sys(
            last.status(),
            last.errno().unwrap_or(0),
            format_args!("no alternative works on this kernel{reasons}"),
        )
        .about_program(&self.0[first].name, "");
        error.with_detail(last.detail())
    }
}
