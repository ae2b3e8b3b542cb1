//! Copies the entries of maps whose values have grown from one version of a package to another.

use std::sync::Arc;

use super::Session;
use crate::bpf::entries::Entries;
use crate::bpf::map::{Map, map_error};
use crate::error::Result;
use crate::memory;
use crate::package::{compact, members};

/// A map whose entries have been copied, and hashes of these entries.
pub struct Copied {
    old: Arc<Map>,
    /// A number for each entry, sorted. An entry that changes gets another one.
    marks: Vec<u64>,
}

impl Copied {
    #[inline(never)]
    fn new(old: Arc<Map>, new: &Map) -> Result<Copied> {
        let mut marks = Vec::new();
        let mut grown = memory::zeroed(new.value_len())?;
        each(&old, &mut |key, value| {
            marks.push(mark(key, value));
            for (from, to) in parts(&old, value).zip(grown.chunks_mut(new.value_len() / new.cpus)) {
                to[..from.len()].copy_from_slice(from);
            }
            new.set(key, &grown, 0)
        })?;
        marks.sort_unstable();
        Ok(Copied { old, marks })
    }

    /// Returns how many entries have been copied, and how many have changed or been added since.
    fn counts(&self) -> Result<(usize, usize)> {
        let mut changed = 0;
        each(&self.old, &mut |key, value| {
            changed += usize::from(self.marks.binary_search(&mark(key, value)).is_err());
            Ok(())
        })?;
        Ok((self.marks.len(), changed))
    }
}

/// Describes what has been copied, as JSON. The programs that could change it have ended.
#[inline(never)]
pub fn describe_copied(copied: &[Copied]) -> Result<String> {
    let mut list = Vec::new();
    for one in copied {
        let (entries, lost) = one.counts()?;
        let name = (*one.old.label()).into();
        list.push(members([("name", name), ("entries", entries.into()), ("updates_lost", lost.into())]));
    }
    Ok(compact(&list.into()))
}

impl Session {
    /// Copies the entries of maps of the running version to those that have grown.
    #[inline(never)]
    pub fn copy_maps(&mut self) -> Result<Vec<Copied>> {
        let mut copied = Vec::new();
        for (index, old) in self.grown.drain(..) {
            copied.push(Copied::new(old, &self.opened.maps[index])?);
        }
        Ok(copied)
    }
}

/// The value of each CPU, without padding.
fn parts<'a>(map: &Map, value: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let size = map.value.size;
    value.chunks(map.value_len() / map.cpus).map(move |part| &part[..size])
}

/// Receives the key and the value of an entry.
type Receive<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// Calls `f` for each entry.
#[inline(never)]
fn each(map: &Map, f: &mut Receive<'_>) -> Result<()> {
    let (mut walk, mut result, mut is_over) = (Entries::new(map, false), Ok(()), false);
    while !is_over && result.is_ok() {
        let step = walk.step(map, |key, value| {
            result = f(key, value);
            result.is_ok()
        });
        is_over = step.map_err(|e| map_error(map, "entries", e))?;
    }
    result
}

/// The FNV-1a hash of an entry.
fn mark(key: &[u8], value: &[u8]) -> u64 {
    let step = |mark: u64, &byte: &u8| (mark ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    key.iter().chain(value).fold(0xcbf2_9ce4_8422_2325, step)
}
