//! The shape of events of one source of one version: how to format them as JSON, and their type for filters.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eunomia::render::{Clock, Plan, hex_json};
use eunomia::types::Type;
use eunomia::vm::{MapInfo, SourceInfo, SourceKind};
use eunomia::{Event, EventKind};
use eunomia_records::{Entries, field};
use sha2::{Digest as _, Sha256};

use crate::entry::Entry;

/// Maximum number of shapes of a task that are kept. The oldest ones belong to versions whose events are no longer kept.
const MAX_SHAPES: usize = 64;

/// The shape of the events of one source.
#[derive(Debug)]
pub struct Shape {
    number: u32,
    /// The name of the map.
    name: Box<CStr>,
    /// The type of the events, which may differ between versions of a package.
    ty: Option<Arc<Type>>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Records. Without a plan, their type is unknown.
    Record(Option<Box<Plan>>),
    /// A key and a value.
    Entry(Box<Entry>),
}

impl Shape {
    /// The shape of a source.
    pub fn of_source(source: &SourceInfo, find: impl FnOnce(&str) -> Option<MapInfo>) -> Shape {
        let map = (source.kind == SourceKind::Map).then(|| find(&source.name.to_string_lossy())).flatten();
        Shape::new(&source.name, source.ty.as_ref(), map)
    }

    fn new(name: &CStr, ty: Option<&Arc<Type>>, map: Option<MapInfo>) -> Shape {
        let mut hash = Sha256::new();
        hash.update(format!("{name:?} {ty:?} {:?}", map.as_ref().map(|map| &map.key_type)));
        let [a, b, c, d, ..] = *hash.finalize().as_slice() else { unreachable!("32 bytes") };
        let form = match map {
            Some(map) => Form::Entry(Entry::new(map).into()),
            None => Form::Record(ty.and_then(|ty| Plan::new(ty).ok()).map(Box::new)),
        };
        Shape { number: u32::from_le_bytes([a, b, c, d]), name: name.into(), ty: ty.cloned(), form }
    }

    /// The number of the shape. Equal shapes have the same number, also in another run of the server.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether an event comes from this source and version.
    pub fn is_of(&self, event: &Event) -> bool {
        let is_same = match (&self.ty, event.ty) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_same && *self.name == *event.source
    }

    /// Appends a record, or the key and value of an entry, as JSON.
    pub fn json(&self, key: &[u8], data: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        match &self.form {
            Form::Record(Some(plan)) => plan.json(data, clock, out),
            Form::Record(None) => hex_json(data, out),
            Form::Entry(entry) => entry.json(key, data, clock, out),
        }
    }

    /// The type of its records, as filters see them; `None` if it is unknown.
    pub fn record_type(&self) -> Option<Arc<Type>> {
        match &self.form {
            Form::Record(_) => field::record(self.ty.as_ref()?).ok(),
            Form::Entry(entry) => Some(Entries::new(&entry.map).ok()?.ty),
        }
    }

    /// For entries: the conversion to records, one for each CPU, and the size of a key.
    pub fn entries(&self) -> Option<(Entries, usize)> {
        match &self.form {
            Form::Entry(entry) => Some((Entries::new(&entry.map).ok()?, entry.map.key_size as usize)),
            Form::Record(_) => None,
        }
    }
}

/// The shapes of a task that have occurred in this run of the server.
#[derive(Debug, Default)]
pub struct Shapes(Mutex<Vec<Arc<Shape>>>);

impl Shapes {
    /// The shape of an event. `find` looks for the map of an entry.
    pub fn of(&self, event: &Event, find: impl FnOnce(&str) -> Option<MapInfo>) -> Arc<Shape> {
        let mut all = self.lock();
        if let Some(known) = all.iter().rev().find(|shape| shape.is_of(event)) {
            return Arc::clone(known);
        }
        let is_entry = event.kind == EventKind::MapEntry;
        let map = if is_entry { find(&event.source.to_string_lossy()) } else { None };
        // The map of another version may have the same name and other types.
        let map = map.filter(|map| {
            event.key.len() == map.key_size as usize
                && event.data.len() >= map.value_size as usize
                && map.value_type.as_ref() == event.ty
        });
        let shape = Arc::new(Shape::new(event.source, event.ty, map));
        if all.len() >= MAX_SHAPES {
            all.remove(0);
        }
        all.push(Arc::clone(&shape));
        shape
    }

    /// All known shapes.
    pub fn all(&self) -> Vec<Arc<Shape>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Shape>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
