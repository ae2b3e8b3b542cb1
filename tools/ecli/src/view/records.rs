//! Filters and formats the raw records of each source.

use std::ffi::CStr;
use std::sync::Arc;

use eunomia::package::Sample;
use eunomia::render::Plan;
use eunomia::types::Type;
use eunomia::vm::{MapInfo, SourceInfo, SourceKind};
use eunomia::{Event, Vm};

use super::csv::Csv;
use super::map_entry::EntryText;
use super::stack::{Processes, is_of_stacks};
use super::stack_ids::StackIds;
use super::symbolized::NamedJson;
use super::table::Table;
use super::writer::Writer;
use crate::error::{Code, Failure, Result, say};
use crate::options::{Format, Run};
use crate::symbols::Symbols;
use crate::terminal::Style;
use eunomia_records::Entries;
use eunomia_records::Filter;
use eunomia_records::column::{self, Column};
use eunomia_records::field;

/// A source of events.
pub struct Source {
    pub name: Arc<CStr>,
    pub kind: SourceKind,
    pub ty: Option<Arc<Type>>,
    pub sample: Option<Sample>,
}

impl From<SourceInfo> for Source {
    fn from(info: SourceInfo) -> Source {
        Source { name: info.name, kind: info.kind, ty: info.ty, sample: info.sample }
    }
}

/// The filter and the format of the records of one source.
pub struct Records {
    pub source: Arc<CStr>,
    /// The type in the events, which differs between versions of a package.
    pub ty: Option<Arc<Type>>,
    /// Whether the last record of the source was of this type.
    pub is_current: bool,
    /// Converts the entries of a sampled map to records.
    pub entries: Option<Entries>,
    pub ids: Option<StackIds>,
    pub filter: Option<Filter>,
    pub writer: Writer,
}

impl Records {
    /// Whether an event is of this source and version.
    #[inline]
    pub fn are_of(&self, event: &Event) -> bool {
        is_same(self.ty.as_ref(), event.ty) && *self.source == *event.source
    }
}

/// Whether both are the same object, not only equal types.
#[inline]
fn is_same(one: Option<&Arc<Type>>, other: Option<&Arc<Type>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_some() == other.is_some(),
    }
}

/// Creates the [`Records`] of all sources.
pub struct Builder<'a> {
    pub options: &'a Run,
    pub format: Format,
    pub style: Style,
    /// One for all sources.
    pub symbols: Symbols,
}

/// The types of the records of all sources, in their order; `None` for a source without a type.
type Types = [Option<Arc<Type>>];

impl Builder<'_> {
    /// The records of all sources, in their order. Warns of fields that the filter names and some records lack.
    pub fn all(&self, sources: &[Source], vm: &Arc<Vm>) -> Result<Vec<Records>> {
        let types = self.types(sources, vm)?;
        let records: Vec<Records> =
            sources.iter().map(|source| self.records(source, vm, &types)).collect::<Result<_>>()?;
        warn_of_missing_fields(&records, &types);
        Ok(records)
    }

    /// The records of one source of another version, without warnings. `sources` are those of the running version.
    pub fn one(&self, source: &Source, sources: &[Source], vm: &Arc<Vm>) -> Result<Records> {
        let mut types = self.types(sources, vm)?;
        types.push(self.ty(source, vm)?);
        Ok(Records { is_current: false, ..self.records(source, vm, &types)? })
    }

    fn types(&self, sources: &[Source], vm: &Arc<Vm>) -> Result<Vec<Option<Arc<Type>>>> {
        sources.iter().map(|source| self.ty(source, vm)).collect()
    }

    fn records(&self, source: &Source, vm: &Arc<Vm>, types: &Types) -> Result<Records> {
        let map = self.map(source, vm)?;
        let entries = map.as_ref().map(Entries::new).transpose()?;
        let ids = self.ids(source, vm)?;
        let ty = self.ty(source, vm)?;
        let filter = match &self.options.filter {
            Some(text) => Some(filter(text, ty.as_ref(), source, types)?),
            None => None,
        };
        let map = map.filter(|_| ids.is_none());
        let writer = self.writer(ty.as_ref(), source, entries.as_ref(), map.as_ref())?;
        let (name, ty) = (Arc::clone(&source.name), source.ty.clone());
        Ok(Records { source: name, ty, is_current: true, entries, ids, filter, writer })
    }

    fn writer(
        &self,
        ty: Option<&Arc<Type>>,
        source: &Source,
        entries: Option<&Entries>,
        map: Option<&MapInfo>,
    ) -> Result<Writer> {
        let options = self.options;
        match (ty, self.format) {
            (_, Format::Raw) => Ok(Writer::Raw(entries.map_or(0, Entries::value_start))),
            (Some(ty), Format::Json) if options.columns.is_empty() && !options.symbols => {
                // The type of the source is used, because the record may be a number, which is written as a number and
                // not as an object.
                let whole = source.ty.as_ref().filter(|_| entries.is_none()).unwrap_or(ty);
                Ok(Writer::Json(Plan::new(whole)?))
            }
            (Some(ty), _) => self.typed_writer(ty, source, entries, map),
            (None, _) if !options.columns.is_empty() => Err(untyped("--columns", source)),
            (None, Format::Csv) => Err(untyped("--format csv", source)),
            (None, _) => Ok(Writer::Hex(self.format)),
        }
    }

    /// The map of a sampled source, unless its entries are passed through.
    fn map(&self, source: &Source, vm: &Vm) -> Result<Option<MapInfo>> {
        // Raw entries are passed through unless they are filtered.
        let is_whole = self.format == Format::Raw && self.options.filter.is_none();
        let is_map = source.kind == SourceKind::Map && !is_whole;
        Ok(is_map.then(|| vm.map_find(&source.name.to_string_lossy())).transpose()?)
    }

    /// Adds the stacks whose ids are in the records of a source, if stacks are shown.
    fn ids(&self, source: &Source, vm: &Arc<Vm>) -> Result<Option<StackIds>> {
        let are_shown = self.format == Format::Text || self.format == Format::Json && self.options.symbols;
        let ty = self.fields(source, vm)?.filter(|_| are_shown);
        Ok(ty.map(|ty| StackIds::new(vm, &ty)).transpose()?.flatten())
    }

    /// The type of the records of a source, including added stacks.
    fn ty(&self, source: &Source, vm: &Arc<Vm>) -> Result<Option<Arc<Type>>> {
        Ok(match self.ids(source, vm)? {
            Some(ids) => Some(ids.ty),
            None => self.fields(source, vm)?,
        })
    }

    /// The type of the records of a source, as delivered.
    fn fields(&self, source: &Source, vm: &Vm) -> Result<Option<Arc<Type>>> {
        Ok(match self.map(source, vm)? {
            Some(map) => Some(Entries::new(&map)?.ty),
            None => source.ty.as_ref().map(field::record).transpose()?,
        })
    }

    fn typed_writer(
        &self,
        ty: &Arc<Type>,
        source: &Source,
        entries: Option<&Entries>,
        map: Option<&MapInfo>,
    ) -> Result<Writer> {
        let (options, selected) = (self.options, &self.options.columns);
        let columns = || match entries {
            Some(entries) if selected.is_empty() => {
                // The added stacks follow the columns of the entry.
                let stacks = ty.fields.iter().skip(entries.ty.fields.len());
                let names = stacks.map(|stack| stack.name.to_string());
                Column::of(ty, &entries.columns().into_iter().chain(names).collect::<Vec<_>>())
            }
            _ => Column::of(ty, selected),
        };
        match (self.format, entries, map) {
            (Format::Json, ..) if options.symbols => {
                if let Some(named) =
                    NamedJson::new(Column::of(ty, selected)?, Processes::new(ty), self.symbols.clone())
                {
                    return Ok(Writer::Named(named.into()));
                }
            }
            (Format::Text, Some(entries), Some(map))
                if selected.is_empty() && !is_of_stacks(map.value_type.as_deref()) =>
            {
                return Ok(Writer::Entry(EntryText::new(entries, source.sample.clone())?.into()));
            }
            _ => {}
        }
        Ok(match self.format {
            Format::Json if selected.is_empty() => Writer::Json(Plan::new(ty)?),
            Format::Json => Writer::Json(column::json_plan(ty, selected)?),
            Format::Csv => Writer::Csv(Csv::new(columns()?, options.timestamps)),
            _ => Writer::Table(Table::new(columns()?, ty, self.style, self.symbols.clone()).into()),
        })
    }
}

fn filter(text: &str, ty: Option<&Arc<Type>>, source: &Source, types: &Types) -> Result<Filter> {
    if types.iter().all(Option::is_none) {
        return Err(untyped("--filter", source));
    }
    let ty = ty.cloned().unwrap_or_else(|| Type::bytes(0));
    let others = types.iter().flatten().filter(|other| **other != ty);
    let parsed = Filter::parse(text, &ty, &others.cloned().collect::<Vec<_>>());
    parsed.map_err(|why| Failure::new(Code::Usage, format_args!("--filter: {why}")))
}

fn untyped(option: &str, source: &Source) -> Failure {
    let name = source.name.to_string_lossy();
    let text = format!("{option}: the package does not specify the type of the records of {name:?}");
    Failure::new(Code::Usage, text)
}

/// Names each field that the filter compares and some records do not have.
fn warn_of_missing_fields(records: &[Records], types: &Types) {
    let mut printed = Vec::new();
    for (records, ty) in records.iter().zip(types) {
        let lacking = records.filter.iter().flat_map(|filter| &filter.lacking);
        let name = ty.as_ref().map_or("a record without a type".into(), |ty| ty.name.to_string());
        for field in lacking {
            let line = format!("--filter: {name} has no field {field:?}; comparisons with it are false");
            if !printed.contains(&line) {
                say(&line);
                printed.push(line);
            }
        }
    }
}
