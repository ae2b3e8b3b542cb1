//! Adapts the output when the package is replaced: the records of each version are formatted by the types of that
//! version.
//!
//! The library uses one `Type` for all equal types, so if a new version has the same types of records, the output
//! continues unchanged. A record with an unknown type is the first one of a new version.

use std::mem;
use std::sync::Arc;

use eunomia::vm::SourceKind;
use eunomia::{Event, Flow, Vm};

use super::View;
use super::records::Source;
use crate::error::{Failure, Result};
use crate::reload::Requests;

/// Maximum number of sources, of all versions, whose formats are kept. The oldest ones are of versions that have no
/// events left.
const MAX_KNOWN: usize = 64;

/// A package that may be replaced.
pub struct Versions {
    /// The package.
    pub vm: Arc<Vm>,
    requests: Requests,
    /// The number of replaces that the view has adapted to.
    known: u64,
    /// The reason why the records of a new version cannot be shown.
    failure: Option<Failure>,
}

/// The sources of the running version.
pub fn sources(vm: &Vm) -> Result<Vec<Source>> {
    let sources = (0..vm.source_count()?).map(|index| vm.source_at(index).map(Source::from));
    Ok(sources.collect::<eunomia::Result<Vec<_>>>()?)
}

impl View<'_> {
    /// Shows the records of all versions from now on. Does nothing if there are no requests, because the package is
    /// then never replaced.
    pub fn follow(&mut self, vm: &Arc<Vm>, requests: Option<Requests>) {
        let (vm, failure) = (Arc::clone(vm), None);
        self.versions = requests.map(|requests| Versions { vm, requests, known: 0, failure });
    }

    /// Ends messages about replaces, at the end of the run.
    pub fn end_following(&self) {
        self.versions.iter().for_each(|versions| versions.requests.end());
    }

    /// Fails if the records of a new version cannot be shown.
    pub fn check(&mut self) -> Result<()> {
        self.versions.as_mut().and_then(|versions| versions.failure.take()).map_or(Ok(()), Err)
    }

    /// Adapts to a replace before the next events are shown.
    pub fn look_for_new_version(&mut self) {
        let Some(versions) = &mut self.versions else { return };
        let replaced = versions.requests.replaced();
        if mem::replace(&mut versions.known, replaced) == replaced {
            return;
        }
        let vm = Arc::clone(&versions.vm);
        // A new version may have other types of map keys. Events have only the type of the value, so they do not show this.
        self.records.iter_mut().for_each(|records| records.retain(|records| records.entries.is_none()));
        match sources(&vm) {
            Ok(sources) => self.set_frames(&sources),
            Err(failure) => self.fail(failure),
        }
    }

    fn fail(&mut self, failure: Failure) {
        if let Some(versions) = &mut self.versions {
            versions.failure = Some(failure);
        }
    }

    /// Writes a record of another version than the last one of its source.
    #[cold]
    pub fn records_of_other_version(&mut self, event: &Event) -> Flow {
        let Some(versions) = &self.versions else { return Flow::Continue };
        let vm = Arc::clone(&versions.vm);
        match self.change_version(event, &vm) {
            Ok(()) => self.records(event),
            Err(failure) => {
                self.fail(failure);
                Flow::End
            }
        }
    }

    /// Makes the version of this event the current one of its source.
    fn change_version(&mut self, event: &Event, vm: &Arc<Vm>) -> Result<()> {
        let mut all = self.records.take().unwrap_or_default();
        if !all.iter().any(|records| records.are_of(event)) {
            let sources = sources(vm)?;
            self.set_frames(&sources);
            // The version may have been replaced already.
            let known = sources.iter().find(|source| *source.name == *event.source);
            let source = Source {
                name: event.source.into(),
                kind: known.map_or(SourceKind::Ring, |source| source.kind),
                ty: event.ty.cloned(),
                sample: known.and_then(|source| source.sample.clone()),
            };
            all.push(self.builder().one(&source, &sources, vm)?);
            all.drain(..all.len().saturating_sub(MAX_KNOWN));
        }
        for records in all.iter_mut().filter(|records| *records.source == *event.source) {
            records.is_current = records.are_of(event);
            if records.is_current {
                records.writer.begin_again(&mut self.output);
            }
        }
        self.records = Some(all);
        Ok(())
    }
}
