//! How events look.
//!
//! Whatever the library writes itself is passed on as it is: JSON, and the text of sampled maps. Where fields are chosen
//! or compared, or a table has to fit a terminal, records come raw and are written here, by the library's plans.

mod clock;
mod column;
mod csv;
mod frames;
mod stack;
mod table;

use std::sync::Arc;

use eunomia::types::{Plan, Type, hex_json, hex_text};
use eunomia::vm::{SourceInfo, SourceKind};
use eunomia::{Event, EventKind, Flow, Vm};

use crate::error::{Code, Failure, Result};
use crate::filter::Filter;
use crate::options::{Format, Run};
use crate::output::Output;
use crate::terminal::Style;
use clock::Clock;
use column::Column;
use csv::Csv;
use frames::Frames;
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
}

/// What is done with the records of one source.
struct Records {
    source: Box<[u8]>,
    filter: Option<Filter>,
    writer: Writer,
}

enum Writer {
    Json(Plan),
    Table(Box<Table>),
    Csv(Csv),
    Raw,
    /// Without a type there are bytes only.
    Hex(Format),
}

impl View {
    /// A view of the events of a loaded package.
    pub fn of_package(options: &Run, vm: &Vm, output: Output) -> Result<View> {
        let sources =
            (0..vm.source_count()?).map(|index| vm.source_at(index)).collect::<eunomia::Result<Vec<_>>>()?;
        let has_maps = sources.iter().any(|source| source.kind == SourceKind::Map);
        let only_maps = sources.iter().all(|source| source.kind == SourceKind::Map);
        let mut view = View::plain(options, output);
        let chooses = options.filter.is_some() || !options.columns.is_empty();
        if let Some(map) = sources.iter().find(|source| source.kind == SourceKind::Map) {
            let name = map.name.to_string_lossy();
            if chooses || view.format == Format::Csv {
                let text = format!(
                    "--filter, --columns and csv are for records; {name:?} is a map that is read at intervals"
                );
                return Err(Failure::new(Code::Usage, text));
            }
        }
        let is_written = match view.format {
            Format::Json => !chooses,
            Format::Text => has_maps,
            Format::Csv | Format::Raw => false,
        };
        if !is_written {
            let style = Style::of(view.output.is_terminal());
            view.records = Some(
                sources
                    .iter()
                    .map(|source| Records::new(options, view.format, style, source))
                    .collect::<Result<_>>()?,
            );
            view.check_csv()?;
        }
        if view.format == Format::Text && has_maps && only_maps && view.output.is_terminal() {
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
        let has_stacks =
            |records: &Records| matches!(&records.writer, Writer::Table(table) if table.has_stacks());
        self.records.iter().flatten().any(has_stacks)
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
        if let Some(frames) = &mut self.frames {
            frames.add(event.source.to_bytes(), event.data);
            return self.count();
        }
        match &mut self.records {
            None => {
                if self.timestamps && self.format == Format::Json {
                    self.clock.json(event.data, &mut self.output.buffer);
                } else {
                    self.output.buffer.extend_from_slice(event.data);
                }
                self.output.buffer.push(b'\n');
            }
            Some(sources) => {
                let name = event.source.to_bytes();
                let Some(source) = sources.iter_mut().find(|records| &*records.source == name) else {
                    return Flow::Continue;
                };
                if source.filter.as_ref().is_some_and(|filter| !filter.accepts(event.data)) {
                    return Flow::Continue;
                }
                source.write(event, self.timestamps, &mut self.clock, &mut self.output);
            }
        }
        self.count()
    }

    #[inline]
    fn count(&mut self) -> Flow {
        self.shown += 1;
        if self.output.go_on() && self.shown < self.limit { Flow::Continue } else { Flow::End }
    }

    fn line(&mut self, line: &[u8]) -> Flow {
        self.output.buffer.extend_from_slice(line);
        self.output.buffer.push(b'\n');
        if self.output.go_on() { Flow::Continue } else { Flow::End }
    }

    fn round(&mut self, event: &Event) -> Flow {
        if let Some(frames) = &mut self.frames {
            let size = self.output.size();
            frames.draw(event.source, self.clock.time(), size, &mut self.output.buffer);
        }
        if self.output.go_on() { Flow::Continue } else { Flow::End }
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

impl Records {
    fn new(options: &Run, format: Format, style: Style, source: &SourceInfo) -> Result<Records> {
        let name = source.name.to_string_lossy();
        let untyped = |what: &str| {
            let text = format!("{what}: the package does not tell what the records of {name:?} are");
            Failure::new(Code::Usage, text)
        };
        let filter = match (&options.filter, &source.ty) {
            (Some(text), Some(ty)) => Some(Filter::parse(text, ty)?),
            (Some(_), None) => return Err(untyped("--filter")),
            (None, _) => None,
        };
        let writer = match (&source.ty, format) {
            (_, Format::Raw) => Writer::Raw,
            (Some(ty), _) => Writer::typed(options, format, style, ty)?,
            (None, _) if !options.columns.is_empty() => return Err(untyped("--columns")),
            (None, Format::Csv) => return Err(untyped("--format csv")),
            (None, _) => Writer::Hex(format),
        };
        Ok(Records { source: source.name.to_bytes().into(), filter, writer })
    }

    fn write(&mut self, event: &Event, timestamps: bool, clock: &mut Clock, output: &mut Output) {
        let record = event.data;
        match &mut self.writer {
            Writer::Json(plan) if timestamps => {
                let mut json = Vec::new();
                plan.json(record, &mut json);
                clock.json(&json, &mut output.buffer);
            }
            Writer::Json(plan) => plan.json(record, &mut output.buffer),
            Writer::Table(table) => {
                let size = output.size();
                return table.row(record, clock, timestamps, size, &mut output.buffer);
            }
            Writer::Csv(csv) => csv.row(record, timestamps.then(|| clock.exact()), &mut output.buffer),
            Writer::Raw => {
                output.buffer.extend_from_slice(event.key);
                return output.buffer.extend_from_slice(record);
            }
            Writer::Hex(Format::Json) => hex_json(record, &mut output.buffer),
            Writer::Hex(_) => hex_text(clock.time().as_bytes(), record, &mut output.buffer),
        }
        output.buffer.push(b'\n');
    }
}

impl Writer {
    fn typed(options: &Run, format: Format, style: Style, ty: &Arc<Type>) -> Result<Writer> {
        let columns = || Column::of(ty, &options.columns);
        Ok(match format {
            Format::Json if options.columns.is_empty() => Writer::Json(Plan::new(ty)?),
            Format::Json => Writer::Json(column::json_plan(ty, &options.columns)?),
            Format::Csv => Writer::Csv(Csv::new(columns()?, options.timestamps)),
            Format::Text => Writer::Table(Table::new(columns()?, ty, style).into()),
            Format::Raw => Writer::Raw,
        })
    }
}
