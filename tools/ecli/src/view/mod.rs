//! How events look.
//!
//! Whatever the library writes itself is passed on as it is: JSON, and the text of sampled maps. Where fields are chosen
//! or compared, or a table has to fit a terminal, records come raw and are written here, by the library's plans.

mod clock;
mod column;
mod csv;
mod entry;
mod frames;
mod ids;
mod maps;
mod named;
mod stack;
mod table;

use std::sync::Arc;

use eunomia::package::{Package, Sample};
use eunomia::render::{Plan, hex_json, hex_text};
use eunomia::types::Type;
use eunomia::vm::{MapInfo, SourceInfo, SourceKind};
use eunomia::{Event, EventKind, Flow, Vm};

use crate::error::{Code, Failure, Result, say};
use crate::field;
use crate::filter::Filter;
use crate::options::{Format, Run};
use crate::output::Output;
use crate::symbols::Symbols;
use crate::terminal::{Style, is_dumb};
use clock::Clock;
pub use column::Column;
use csv::Csv;
use entry::{Entries, EntryText};
use frames::Frames;
use ids::StackIds;
use maps::MapView;
use named::NamedJson;
use stack::Processes;
use table::Table;

/// Writes events to an output.
pub struct View {
    /// Where they go.
    pub output: Output,
    /// Events written.
    pub shown: u64,
    limit: u64,
    format: Format,
    timestamps: bool,
    /// By source, if records come raw; else the library has written them.
    records: Option<Vec<Records>>,
    clock: Clock,
    frames: Option<Frames>,
    /// Those of `--map`.
    maps: Vec<MapView>,
}

/// What is done with the records of one source.
struct Records {
    source: Box<[u8]>,
    /// Of a sampled map, what makes records of its entries.
    entries: Option<Entries>,
    ids: Option<StackIds>,
    filter: Option<Filter>,
    writer: Writer,
}

enum Writer {
    Json(Plan),
    Named(Box<NamedJson>),
    Entry(Box<EntryText>),
    Table(Box<Table>),
    Csv(Csv),
    /// From there: what is in front is the key, which is written anyway.
    Raw(usize),
    /// Without a type there are bytes only.
    Hex(Format),
}

impl View {
    /// A view of the events of a loaded package, which `package` holds; without that nothing tells of histograms.
    pub fn of_package(options: &Run, vm: &Arc<Vm>, package: &[u8], output: Output) -> Result<View> {
        let sources =
            (0..vm.source_count()?).map(|index| vm.source_at(index)).collect::<eunomia::Result<Vec<_>>>()?;
        let has_maps = sources.iter().any(|source| source.kind == SourceKind::Map);
        let only_maps = sources.iter().all(|source| source.kind == SourceKind::Map);
        let mut view = View::plain(options, output);
        let style = Style::of(view.output.is_terminal());
        let symbols = Symbols::new();
        let named = (view.format != Format::Json || options.symbols).then_some(&symbols);
        for name in &options.map {
            view.maps.push(MapView::new(vm, name, view.format, named, style)?);
        }
        let chooses = options.filter.is_some() || !options.columns.is_empty();
        let is_written = match view.format {
            Format::Json => !chooses && !options.symbols,
            // Functions on stacks the library does not name.
            Format::Text => {
                let has_stacks = sources.iter().any(|source| maps::is_of_stacks(source.ty.as_deref()));
                has_maps && !chooses && !has_stacks && !ids::has_stacks(vm)?
            }
            Format::Csv | Format::Raw => false,
        };
        if !is_written {
            let mut make = Make { options, format: view.format, style, package, types: Vec::new(), symbols };
            if options.filter.is_some() {
                make.types = sources.iter().map(|source| make.ty(source, vm)).collect::<Result<_>>()?;
            }
            let records: Vec<Records> =
                sources.iter().map(|source| make.records(source, vm)).collect::<Result<_>>()?;
            make.explain(&records);
            view.records = Some(records);
            view.check_csv()?;
            view.set_head();
        }
        let is_drawn = has_maps && only_maps && options.columns.is_empty();
        if view.format == Format::Text && is_drawn && view.output.is_terminal() && !is_dumb() {
            view.frames = Some(Frames::default());
        }
        Ok(view)
    }

    /// A view of what the library or a guest writes.
    pub fn plain(options: &Run, output: Output) -> View {
        View {
            output,
            shown: 0,
            limit: options.count.unwrap_or(u64::MAX),
            format: options.format(),
            timestamps: options.timestamps,
            records: None,
            clock: Clock::default(),
            frames: None,
            maps: Vec::new(),
        }
    }

    /// The form in which the library has to deliver.
    pub fn delivery(&self) -> eunomia::Format {
        match (&self.records, self.format) {
            (Some(_), _) | (None, Format::Raw | Format::Csv) => eunomia::Format::Raw,
            (None, Format::Json) => eunomia::Format::Json,
            (None, Format::Text) => eunomia::Format::Text,
        }
    }

    /// Whether stacks are shown.
    pub fn has_stacks(&self) -> bool {
        let has_stacks = |records: &Records| match &records.writer {
            Writer::Table(table) => table.has_stacks(),
            Writer::Named(_) => true,
            _ => false,
        };
        self.records.iter().flatten().any(has_stacks) || self.maps.iter().any(MapView::has_stacks)
    }

    /// Prints the maps of `--map`.
    pub fn print_maps(&mut self, vm: &Vm) -> Result<()> {
        clock::set();
        self.maps.iter_mut().try_for_each(|map| map.print(vm, &mut self.clock, &mut self.output))?;
        self.end_batch();
        Ok(())
    }

    /// One table has one head.
    fn check_csv(&self) -> Result<()> {
        let heads = self.records.iter().flatten().filter_map(|records| match &records.writer {
            Writer::Csv(csv) => Some(csv.names()),
            _ => None,
        });
        let heads: Vec<_> = heads.collect();
        if heads.windows(2).any(|pair| pair[0] != pair[1]) {
            let text = "--format csv: the package delivers records of several types; choose fields that all have with --columns";
            return Err(Failure::new(Code::Usage, text));
        }
        Ok(())
    }

    fn set_head(&mut self) {
        let head = self.records.iter_mut().flatten().find_map(|records| match &mut records.writer {
            Writer::Csv(csv) => Some(csv.head()),
            _ => None,
        });
        self.output.set_head(head.unwrap_or_default());
    }

    /// Takes an event.
    #[inline]
    pub fn event(&mut self, event: &Event) -> Flow {
        match event.kind {
            EventKind::Sample | EventKind::MapEntry => self.show(event),
            EventKind::Header | EventKind::Output => self.line(event.data),
            EventKind::Round => self.round(event),
            EventKind::Lost => Flow::Continue,
        }
    }

    #[inline]
    fn show(&mut self, event: &Event) -> Flow {
        if self.records.is_some() {
            return self.records(event);
        }
        if let Some(frames) = &mut self.frames {
            frames.add(event.source.to_bytes(), event.data);
            return self.count();
        }
        if self.timestamps && self.format == Format::Json {
            self.clock.json(event.data, &mut self.output.buffer);
        } else {
            self.output.buffer.extend_from_slice(event.data);
        }
        self.output.buffer.push(b'\n');
        self.count()
    }

    /// Writes a record, or those that an entry is made of, where they are wanted.
    #[inline]
    fn records(&mut self, event: &Event) -> Flow {
        let name = event.source.to_bytes();
        let Some(source) = self.records.iter_mut().flatten().find(|records| &*records.source == name) else {
            return Flow::Continue;
        };
        let Records { entries, ids, filter, writer, .. } = source;
        for index in 0..entries.as_ref().map_or(1, |entries| entries.count) {
            let record = match entries {
                Some(entries) => entries.record(event.key, event.data, index),
                None => event.data,
            };
            let record = ids.as_mut().map_or(record, |ids| ids.record(record));
            if filter.as_ref().is_some_and(|filter| !filter.accepts(record)) {
                continue;
            }
            let start = self.output.buffer.len();
            writer.write(event.key, record, self.timestamps, &mut self.clock, &mut self.output);
            if let Some(frames) = &mut self.frames {
                frames.add(name, self.output.buffer[start..].trim_ascii_end());
                self.output.buffer.truncate(start);
            }
            self.shown += 1;
            if !self.output.go_on() || self.shown >= self.limit {
                return Flow::End;
            }
        }
        Flow::Continue
    }

    /// Counts an event that has been written.
    pub fn count(&mut self) -> Flow {
        self.shown += 1;
        if self.output.go_on() && self.shown < self.limit { Flow::Continue } else { Flow::End }
    }

    fn line(&mut self, line: &[u8]) -> Flow {
        self.output.line(line);
        if self.output.go_on() { Flow::Continue } else { Flow::End }
    }

    fn round(&mut self, event: &Event) -> Flow {
        if let Some(frames) = &mut self.frames {
            let size = self.output.size();
            frames.draw(event.source, self.clock.time(), size, &mut self.output.buffer);
        }
        if self.output.go_on() { Flow::Continue } else { Flow::End }
    }

    /// Prepares for the events of a poll.
    pub fn begin_batch(&self) {
        if self.records.is_some() {
            clock::set();
        }
    }

    /// Writes out what there is, before the next wait. `false`: nothing more can be written.
    pub fn end_batch(&mut self) -> bool {
        self.clock.forget();
        self.output.flush()
    }

    /// Whether as many events have been written as are wanted.
    pub fn is_done(&self) -> bool {
        self.shown >= self.limit
    }
}

/// Makes what writes the records of each source.
struct Make<'a> {
    options: &'a Run,
    format: Format,
    style: Style,
    package: &'a [u8],
    /// Of the records of each source, where there is a filter.
    types: Vec<Option<Arc<Type>>>,
    /// One for all of them.
    symbols: Symbols,
}

impl Make<'_> {
    fn records(&self, source: &SourceInfo, vm: &Arc<Vm>) -> Result<Records> {
        let (options, format) = (self.options, self.format);
        let name = source.name.to_string_lossy();
        let map = self.map(source, vm)?;
        let entries = map.as_ref().map(|map| Entries::new(source, map)).transpose()?;
        let ids = self.ids(source, vm)?;
        let fields = self.ty(source, vm)?;
        let ty = fields.as_ref();
        let untyped = |what: &str| {
            let text = format!("{what}: the package does not tell what the records of {name:?} are");
            Failure::new(Code::Usage, text)
        };
        let filter = match (&options.filter, ty) {
            (Some(_), None) if self.types.iter().all(Option::is_none) => return Err(untyped("--filter")),
            (Some(text), ty) => {
                let ty = ty.cloned().unwrap_or_else(|| Type::bytes(0));
                let others = self.types.iter().flatten().filter(|other| **other != ty);
                Some(Filter::parse(text, &ty, &others.cloned().collect::<Vec<_>>())?)
            }
            (None, _) => None,
        };
        let writer = match (ty, format) {
            (_, Format::Raw) => Writer::Raw(entries.as_ref().map_or(0, Entries::value_start)),
            (Some(ty), Format::Json) if options.columns.is_empty() && !options.symbols => {
                // As it is: a number is no object.
                let whole = source.ty.as_ref().filter(|_| entries.is_none()).unwrap_or(ty);
                Writer::Json(Plan::new(whole)?)
            }
            (Some(ty), _) => self.writer(ty, entries.as_ref(), map.as_ref().filter(|_| ids.is_none()))?,
            (None, _) if !options.columns.is_empty() => return Err(untyped("--columns")),
            (None, Format::Csv) => return Err(untyped("--format csv")),
            (None, _) => Writer::Hex(format),
        };
        Ok(Records { source: source.name.to_bytes().into(), entries, ids, filter, writer })
    }

    /// The map that a source is, if what is in its entries is looked at.
    fn map(&self, source: &SourceInfo, vm: &Vm) -> Result<Option<MapInfo>> {
        // Raw entries that nobody chooses among stay whole.
        let is_whole = self.format == Format::Raw && self.options.filter.is_none();
        let is_map = source.kind == SourceKind::Map && !is_whole;
        Ok(is_map.then(|| vm.map_find(&source.name.to_string_lossy())).transpose()?)
    }

    /// What adds the stacks whose ids are in a source's records, where stacks are shown.
    fn ids(&self, source: &SourceInfo, vm: &Arc<Vm>) -> Result<Option<StackIds>> {
        let are_shown = self.format == Format::Text || self.format == Format::Json && self.options.symbols;
        let ty = self.fields(source, vm)?.filter(|_| are_shown);
        Ok(ty.map(|ty| StackIds::new(vm, &ty)).transpose()?.flatten())
    }

    /// The type of a source's records, as they are shown.
    fn ty(&self, source: &SourceInfo, vm: &Arc<Vm>) -> Result<Option<Arc<Type>>> {
        Ok(match self.ids(source, vm)? {
            Some(ids) => Some(ids.ty),
            None => self.fields(source, vm)?,
        })
    }

    /// The type of a source's records, as they come.
    fn fields(&self, source: &SourceInfo, vm: &Vm) -> Result<Option<Arc<Type>>> {
        Ok(match self.map(source, vm)? {
            Some(map) => Some(Entries::new(source, &map)?.ty),
            None => source.ty.as_ref().map(field::record).transpose()?,
        })
    }

    /// Says of which records the filter asks for what they lack.
    fn explain(&self, records: &[Records]) {
        let mut said = Vec::new();
        for (records, ty) in records.iter().zip(&self.types) {
            let lacking = records.filter.iter().flat_map(|filter| &filter.lacking);
            let name = ty.as_ref().map_or("a record without a type".into(), |ty| ty.name.to_string());
            for field in lacking {
                let line = format!("--filter: {name} has no {field:?}: what asks for it is false there");
                if !said.contains(&line) {
                    say(&line);
                    said.push(line);
                }
            }
        }
    }

    fn writer(&self, ty: &Arc<Type>, entries: Option<&Entries>, map: Option<&MapInfo>) -> Result<Writer> {
        let (options, chosen) = (self.options, &self.options.columns);
        let columns = || match entries {
            Some(entries) if chosen.is_empty() => {
                // Behind those of the entry stand the stacks whose ids it has.
                let stacks = ty.fields.iter().skip(entries.ty.fields.len());
                let names = stacks.map(|stack| stack.name.to_string());
                Column::of(ty, &entries.columns().into_iter().chain(names).collect::<Vec<_>>())
            }
            _ => Column::of(ty, chosen),
        };
        match (self.format, entries, map) {
            (Format::Json, ..) if options.symbols => {
                if let Some(named) =
                    NamedJson::new(Column::of(ty, chosen)?, Processes::new(ty), self.symbols.clone())
                {
                    return Ok(Writer::Named(named.into()));
                }
            }
            (Format::Text, Some(entries), Some(map))
                if chosen.is_empty() && !maps::is_of_stacks(map.value_type.as_deref()) =>
            {
                return Ok(Writer::Entry(EntryText::new(entries, self.sample(map))?.into()));
            }
            _ => {}
        }
        Ok(match self.format {
            Format::Json if chosen.is_empty() => Writer::Json(Plan::new(ty)?),
            Format::Json => Writer::Json(column::json_plan(ty, chosen)?),
            Format::Csv => Writer::Csv(Csv::new(columns()?, options.timestamps)),
            _ => Writer::Table(Table::new(columns()?, ty, self.style, self.symbols.clone()).into()),
        })
    }

    /// How a map is sampled; a package that cannot be read again is an object, which does not tell.
    fn sample(&self, map: &MapInfo) -> Option<Sample> {
        let name = map.name.to_string_lossy();
        let meta = Package::parse(self.package).ok()?.meta;
        meta.maps.into_iter().find(|map| map.name == name || map.ident == name)?.sample
    }
}

impl Writer {
    fn write(&mut self, key: &[u8], record: &[u8], timestamps: bool, clock: &mut Clock, output: &mut Output) {
        match self {
            Writer::Json(plan) if timestamps => {
                let mut json = Vec::new();
                plan.json(record, &clock::of_records(), &mut json);
                clock.json(&json, &mut output.buffer);
            }
            Writer::Json(plan) => plan.json(record, &clock::of_records(), &mut output.buffer),
            Writer::Named(named) if timestamps => {
                let mut json = Vec::new();
                named.write(record, &mut json);
                clock.json(&json, &mut output.buffer);
            }
            Writer::Named(named) => named.write(record, &mut output.buffer),
            Writer::Entry(entry) => entry.write(record, clock.time(), &mut output.buffer),
            Writer::Table(table) => {
                let size = output.size();
                return table.row(record, clock, timestamps, size, &mut output.buffer);
            }
            Writer::Csv(csv) => csv.row(record, timestamps.then(|| clock.exact()), &mut output.buffer),
            Writer::Raw(start) => {
                output.buffer.extend_from_slice(key);
                return output.buffer.extend_from_slice(&record[*start..]);
            }
            Writer::Hex(Format::Json) => hex_json(record, &mut output.buffer),
            Writer::Hex(_) => hex_text(clock.time().as_bytes(), record, &mut output.buffer),
        }
        output.buffer.push(b'\n');
    }
}
