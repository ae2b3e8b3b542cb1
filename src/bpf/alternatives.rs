//! Programs that do the same by different hooks: of each chain of variants the first one that loads and attaches is used.
//!
//! What a kernel can do is found out by doing it. Keeps the book only: loading and attaching are the session's.

use super::sys::object::ProgRef;
use crate::error::Error;
use crate::log::{Level, Log};
use crate::package::{Meta, NameIndex};

/// What is known of each program, in libbpf's order.
pub struct Alternatives(Vec<Alternative>);

struct Alternative {
    name: String,
    /// The one to try after it.
    next: Option<usize>,
    /// The one to try before it.
    previous: Option<usize>,
    /// Whether package and host let it be loaded.
    wanted: bool,
    /// Whether the package can do without it; none if it does not say.
    required: Option<bool>,
    /// Why it is of no use on this kernel.
    cause: Option<Error>,
}

impl Alternatives {
    /// The package has no chain without an end.
    pub fn new<'a>(progs: impl Iterator<Item = ProgRef<'a>>, meta: &Meta, told: &NameIndex) -> Alternatives {
        let (mut alternatives, mut places) = (Vec::new(), NameIndex::default());
        for (index, prog) in progs.enumerate() {
            let name = prog.name().to_string_lossy().into_owned();
            let told = told.get(&name).map(|place| &meta.progs[place]);
            let wanted = told.and_then(|told| told.autoload).unwrap_or(prog.autoload());
            let required = told.and_then(|told| told.required);
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
        for told in &meta.progs {
            let next = told.instead_of.as_ref().and_then(|name| places.get(name));
            if let (Some(index), Some(next)) = (places.get(&told.name), next) {
                alternatives[index].next = Some(next);
                alternatives[next].previous = Some(index);
            }
        }
        Alternatives(alternatives)
    }

    /// Whether package and host let a program be loaded.
    pub fn is_wanted(&self, index: usize) -> bool {
        self.0[index].wanted
    }

    /// The host's word on that.
    pub fn set_wanted(&mut self, index: usize, on: bool) {
        self.0[index].wanted = on;
    }

    /// Whether the next load loads a program.
    pub fn is_loaded_next(&self, index: usize) -> bool {
        self.0[index].wanted && self.0[index].cause.is_none()
    }

    /// Whether the next load loads any program.
    pub fn is_any_left(&self) -> bool {
        (0..self.0.len()).any(|index| self.is_loaded_next(index))
    }

    /// Why a program is not used; none if it is, or was not tried.
    pub fn cause(&self, index: usize) -> Option<&Error> {
        self.0[index].cause.as_ref()
    }

    /// The name of the program to try after this one.
    pub fn instead_of(&self, index: usize) -> Option<&str> {
        Some(&self.0[self.0[index].next?].name)
    }

    /// Whether another one is tried before this one.
    pub fn is_fallback(&self, index: usize) -> bool {
        self.0[index].previous.is_some()
    }

    /// The first of the chain that a program is in.
    pub fn first(&self, index: usize) -> usize {
        let mut first = index;
        while let Some(previous) = self.0[first].previous {
            first = previous;
        }
        first
    }

    /// A program and those to try after it, in that order.
    pub fn chain(&self, first: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(first), |index| self.0[*index].next)
    }

    /// The program to try after this one.
    pub fn next(&self, index: usize) -> Option<usize> {
        self.0[index].next
    }

    /// Whether the package cannot do without any of a chain.
    pub fn is_required(&self, first: usize) -> bool {
        self.chain(first).any(|index| self.0[index].required == Some(true))
    }

    /// Whether the package says itself which programs it cannot do without.
    pub fn says_required(&self) -> bool {
        self.0.iter().any(|alternative| alternative.required.is_some())
    }

    /// A new try: nothing is known.
    pub fn forget(&mut self) {
        self.0.iter_mut().for_each(|alternative| alternative.cause = None);
    }

    /// A program that attached after all.
    pub fn mark_used(&mut self, index: usize) {
        self.0[index].cause = None;
    }

    /// Remembers why a program is not used. If nothing can stand in for it, the caller says so.
    pub fn note(&mut self, index: usize, cause: &Error, log: &Log) {
        let Alternative { name, next, previous, cause: known, .. } = &mut self.0[index];
        if next.or(*previous).is_some() {
            log.write(Level::Info, &format!("program {name:?} is skipped: {}", cause.reason()));
        }
        *known = Some(cause.clone());
    }

    /// The error where no program of a chain is left: that of the last one, with the reasons of all.
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
        let text = format_args!("no variant works on this kernel{reasons}");
        let error = Error::sys(last.status, last.errno, text).about_program(&self.0[first].name, "");
        error.with_detail(&last.detail)
    }
}
