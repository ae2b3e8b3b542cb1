//! Programs that do the same by different hooks: of each chain of variants the first one that loads and attaches is used.
//!
//! What a kernel can do is found out by doing it. Keeps the book only: loading and attaching are the session's.

use super::sys::object::ProgRef;
use crate::error::{Error, Subject};
use crate::log::{Level, Log};
use crate::package::Meta;

/// What is known of each program, in libbpf's order.
pub struct Variants(Vec<Variant>);

struct Variant {
    name: String,
    /// The one to try after it.
    next: Option<usize>,
    /// The one to try before it.
    previous: Option<usize>,
    /// Whether package and host let it be loaded.
    wanted: bool,
    /// Why it is of no use on this kernel.
    passed_over: Option<String>,
}

impl Variants {
    /// The package has no chain without an end.
    pub fn new<'a>(progs: impl Iterator<Item = ProgRef<'a>>, meta: &Meta) -> Variants {
        let mut variants = Vec::new();
        for prog in progs {
            let name = prog.name().to_string_lossy().into_owned();
            let told = meta.progs.iter().find(|told| told.name == name).and_then(|told| told.autoload);
            let wanted = told.unwrap_or(prog.autoload());
            variants.push(Variant { name, next: None, previous: None, wanted, passed_over: None });
        }
        let place = |variants: &[Variant], name: &str| variants.iter().position(|known| known.name == name);
        for told in &meta.progs {
            let next = told.instead_of.as_ref().and_then(|name| place(&variants, name));
            if let (Some(index), Some(next)) = (place(&variants, &told.name), next) {
                variants[index].next = Some(next);
                variants[next].previous = Some(index);
            }
        }
        Variants(variants)
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
        self.0[index].wanted && self.0[index].passed_over.is_none()
    }

    /// Why a program is not used; none if it is, or was not tried.
    pub fn reason(&self, index: usize) -> Option<&str> {
        self.0[index].passed_over.as_deref()
    }

    /// The name of the program to try after this one.
    pub fn instead_of(&self, index: usize) -> Option<&str> {
        Some(&self.0[self.0[index].next?].name)
    }

    /// Whether another one is tried before this one.
    pub fn is_fallback(&self, index: usize) -> bool {
        self.0[index].previous.is_some()
    }

    /// The program to try after this one.
    pub fn next(&self, index: usize) -> Option<usize> {
        self.0[index].next
    }

    /// A new try: nothing is known.
    pub fn forget(&mut self) {
        self.0.iter_mut().for_each(|variant| variant.passed_over = None);
    }

    /// A program that attached after all.
    pub fn is_used(&mut self, index: usize) {
        self.0[index].passed_over = None;
    }

    /// Takes a program that would not load out of the next try; an error if no other one can stand in for it.
    pub fn pass_over(&mut self, index: usize, cause: Error, log: &Log) -> Result<(), Error> {
        if !self.is_loaded_next(index) {
            return Err(cause);
        }
        self.note(index, &cause, log);
        let (mut first, mut is_left) = (index, false);
        while let Some(previous) = self.0[first].previous {
            first = previous;
        }
        let mut next = Some(first);
        while let Some(index) = next {
            is_left |= self.is_loaded_next(index);
            next = self.next(index);
        }
        if is_left { Ok(()) } else { Err(self.none_left(first, cause)) }
    }

    /// Whether the next load loads any program.
    pub fn is_any_left(&self) -> bool {
        (0..self.0.len()).any(|index| self.is_loaded_next(index))
    }

    /// Goes on without a program that nothing can stand in for.
    pub fn skip(&mut self, index: usize, cause: &Error, log: &Log) {
        let Variant { name, passed_over, .. } = &mut self.0[index];
        log.write(Level::Warn, &format!("program {name:?} is passed over: {}", cause.message));
        *passed_over = Some(cause.message.clone());
    }

    /// Remembers why a program is not used. If nothing can stand in for it, the caller says so by its error.
    pub fn note(&mut self, index: usize, cause: &Error, log: &Log) {
        let Variant { name, next, previous, passed_over, .. } = &mut self.0[index];
        if next.or(*previous).is_some() {
            log.write(Level::Warn, &format!("program {name:?} is passed over: {}", cause.message));
        }
        *passed_over = Some(cause.message.clone());
    }

    /// The error where no program of a chain is left: that of the last one, with the reasons of all.
    pub fn none_left(&self, first: usize, mut last: Error) -> Error {
        let (mut reasons, mut tried, mut next) = (String::new(), 0, Some(first));
        while let Some(index) = next {
            if let Some(reason) = &self.0[index].passed_over {
                tried += 1;
                reasons += &format!("; {reason}");
            }
            next = self.next(index);
        }
        if tried > 1 {
            let text = format!("no variant works on this kernel{reasons}");
            let subject = Subject::program(&self.0[first].name, "");
            let all = Error::sys(last.status, last.errno, text).about(subject);
            last = all.with_detail(&last.detail);
        }
        last
    }
}
