//! The filter of one reader, applied to the records of all sources and versions of a task.

use std::sync::Arc;

use eunomia::types::Type;
use eunomia::{Format, Vm};
use eunomia_records::{Entries, Filter, record_clock};

use crate::error::{ApiError, Result};
use crate::log::{LineKind, LineRef};
use crate::shape::Shape;
use crate::task::Task;

/// The filter of a reader.
pub struct LineFilter {
    text: String,
    task: Arc<Task>,
    /// The known shapes. Those of the running version come first.
    shapes: Vec<Arc<Shape>>,
    /// The parsed filters for the shapes that have occurred, by their numbers; `None` for a shape that is no longer
    /// known.
    parsed: Vec<(u32, Option<Parsed>)>,
}

struct Parsed {
    filter: Filter,
    /// Converts an entry of a map to records, and the size of its key.
    entries: Option<(Entries, usize)>,
}

impl LineFilter {
    /// Parses a filter for the records that the task sends now. Call it while no events are read.
    pub fn new(text: &str, task: &Arc<Task>) -> Result<LineFilter> {
        if task.spec.format != Format::Json {
            let text =
                format!("filter: task {} keeps its events as text; start it with the format json", task.id);
            return Err(ApiError::invalid(text));
        }
        let vm = task.current().vm.clone();
        let shapes = vm.as_deref().map(shapes).transpose()?.unwrap_or_default();
        let (text, task) = (text.to_owned(), Arc::clone(task));
        let filter = LineFilter { text, task, shapes, parsed: Vec::new() };
        let types = filter.types();
        if vm.is_some() && types.is_empty() {
            return Err(ApiError::invalid("filter: the package does not specify the type of any record"));
        }
        for ty in &types {
            filter.parse(ty).map_err(ApiError::invalid)?;
        }
        Ok(filter)
    }

    /// Whether a line is shown. Lines that are not events are always shown. The error is one line.
    pub fn accepts(&mut self, line: &LineRef) -> Result<bool, String> {
        if line.kind != LineKind::Json {
            return Ok(true);
        }
        let index = match self.parsed.iter().position(|(number, _)| *number == line.shape) {
            Some(index) => index,
            None => self.learn(line.shape)?,
        };
        let Some(Parsed { filter, entries }) = &mut self.parsed[index].1 else { return Ok(false) };
        let Some((entries, key_size)) = entries else { return Ok(filter.accepts(line.record)) };
        let (key, value) = line.record.split_at(line.record.len().min(*key_size));
        Ok((0..entries.count).any(|index| filter.accepts(entries.record(key, value, index))))
    }

    /// Parses the filter for a shape that is not in `parsed` yet. Returns its index there.
    fn learn(&mut self, number: u32) -> Result<usize, String> {
        // Times in records are compared with this clock.
        record_clock::update();
        let is_it = |shape: &&Arc<Shape>| shape.number() == number;
        if !self.shapes.iter().any(|shape| is_it(&shape)) {
            self.shapes.extend(self.task.shapes.all().iter().find(is_it).cloned());
        }
        let shape = self.shapes.iter().find(is_it).cloned();
        let parsed = match shape {
            Some(shape) => {
                let ty = shape.record_type().unwrap_or_else(|| Type::bytes(0));
                Some(Parsed { filter: self.parse(&ty)?, entries: shape.entries() })
            }
            None => None,
        };
        self.parsed.push((number, parsed));
        Ok(self.parsed.len() - 1)
    }

    fn types(&self) -> Vec<Arc<Type>> {
        self.shapes.iter().filter_map(|shape| shape.record_type()).collect()
    }

    fn parse(&self, ty: &Arc<Type>) -> Result<Filter, String> {
        let others: Vec<_> = self.types().into_iter().filter(|other| other != ty).collect();
        Filter::parse(&self.text, ty, &others).map_err(|why| format!("filter: {why}"))
    }
}

/// The shapes of all sources of the running version.
fn shapes(vm: &Vm) -> Result<Vec<Arc<Shape>>> {
    let one = |index| Ok(Arc::new(Shape::of_source(&vm.source_at(index)?, |name| vm.map_find(name).ok())));
    (0..vm.source_count()?).map(one).collect()
}
