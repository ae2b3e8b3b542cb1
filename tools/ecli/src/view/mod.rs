//! Formats events.
//!
//! JSON and the text of sampled maps come from the library and are passed through. If fields are selected or compared, or a
//! table must fit a terminal, the library delivers raw records, which are formatted here with its plans.

mod clock;
mod csv;
mod frames;
mod map_entry;
mod maps;
mod records;
mod stack;
mod stack_ids;
mod symbolized;
mod table;
mod versions;
mod writer;

use std::sync::Arc;

use eunomia::vm::SourceKind;
use eunomia::{Event, EventKind, Flow, Vm};

use crate::error::{Code, Failure, Result};
use crate::options::{Format, Run};
use crate::output::Output;
use crate::symbols::Symbols;
use crate::terminal::{Style, is_dumb};
use clock::Clock;
use eunomia_records::record_clock;
use frames::Frames;
use maps::MapView;
use records::{Builder, Records, Source};
use versions::{Versions, sources};
use writer::Writer;

/// Writes events to an output.
pub struct View<'a> {
    /// The output.
    pub output: Output,
    /// The number of events written.
    pub shown: u64,
    limit: u64,
    format: Format,
    timestamps: bool,
    /// The formats of the raw records of each source. `None`: the library formats them.
    records: Option<Vec<Records>>,
    clock: Clock,
    frames: Option<Frames>,
    /// The maps of `--map`.
    maps: Vec<MapView>,
    options: &'a Run,
    symbols: Symbols,
    /// The package, if it may be replaced.
    versions: Option<Versions>,
}

impl<'a> View<'a> {
    /// Creates the view of a loaded package.
    pub fn of_package(options: &'a Run, vm: &Arc<Vm>, output: Output) -> Result<View<'a>> {
        let sources = sources(vm)?;
        let mut view = View::plain(options, output);
        view.set_maps(vm)?;
        if !is_written_by_library(options, view.format, &sources, vm)? {
            view.records = Some(view.builder().all(&sources, vm)?);
            view.check_csv()?;
            view.set_header();
        }
        view.set_frames(&sources);
        Ok(view)
    }

    fn set_maps(&mut self, vm: &Arc<Vm>) -> Result<()> {
        let named = (self.format != Format::Json || self.options.symbols).then_some(&self.symbols);
        let style = Style::of(self.output.is_terminal());
        let maps = self.options.map.iter().map(|name| MapView::new(vm, name, self.format, named, style));
        self.maps = maps.collect::<Result<_>>()?;
        Ok(())
    }

    fn builder(&self) -> Builder<'a> {
        let (options, format) = (self.options, self.format);
        Builder {
            options,
            format,
            style: Style::of(self.output.is_terminal()),
            symbols: self.symbols.clone(),
        }
    }

    /// Redraws maps in place if there is nothing else to show.
    fn set_frames(&mut self, sources: &[Source]) {
        let is_map = |source: &Source| source.kind == SourceKind::Map;
        let is_drawn = !sources.is_empty() && sources.iter().all(is_map) && self.options.columns.is_empty();
        let is_drawn = self.format == Format::Text && is_drawn && self.output.is_terminal() && !is_dumb();
        self.frames = is_drawn.then(|| self.frames.take().unwrap_or_default());
    }

    /// A view of events that the library or a guest formats.
    pub fn plain(options: &'a Run, output: Output) -> View<'a> {
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
            options,
            symbols: Symbols::new(),
            versions: None,
        }
    }

    /// The format in which the library delivers events.
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
        record_clock::update();
        if let Some(vm) = self.versions.as_ref().map(|versions| Arc::clone(&versions.vm)) {
            self.set_maps(&vm)?;
        }
        self.maps.iter_mut().try_for_each(|map| map.print(vm, &mut self.clock, &mut self.output))?;
        self.end_batch();
        Ok(())
    }

    /// Fails if the sources need different CSV headers.
    fn check_csv(&self) -> Result<()> {
        let headers = self.records.iter().flatten().filter_map(|records| match &records.writer {
            Writer::Csv(csv) => Some(csv.names()),
            _ => None,
        });
        let headers: Vec<_> = headers.collect();
        if headers.windows(2).any(|pair| pair[0] != pair[1]) {
            let text =
                "--format csv: the package has records of several types; select common fields with --columns";
            return Err(Failure::new(Code::Usage, text));
        }
        Ok(())
    }

    fn set_header(&mut self) {
        let header = self.records.iter_mut().flatten().find_map(|records| records.writer.csv_header());
        self.output.set_header(header.unwrap_or_default());
    }

    /// Writes an event.
    #[inline]
    pub fn event(&mut self, event: &Event) -> Flow {
        match event.kind {
            EventKind::Sample | EventKind::MapEntry => self.show(event),
            EventKind::Header | EventKind::Output => self.line(event.data),
            EventKind::Round => self.round(event),
            _ => Flow::Continue,
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

    /// Writes a record, or the records of a map entry, if they match the filter.
    #[inline]
    fn records(&mut self, event: &Event) -> Flow {
        let name = event.source.to_bytes();
        let Some(source) =
            self.records.iter_mut().flatten().find(|records| records.are_of(event) && records.is_current)
        else {
            return self.records_of_other_version(event);
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
            if !self.output.flush_if_full() || self.shown >= self.limit {
                return Flow::End;
            }
        }
        Flow::Continue
    }

    /// Counts a written event.
    pub fn count(&mut self) -> Flow {
        self.shown += 1;
        if self.output.flush_if_full() && self.shown < self.limit { Flow::Continue } else { Flow::End }
    }

    fn line(&mut self, line: &[u8]) -> Flow {
        self.output.line(line);
        if self.output.flush_if_full() { Flow::Continue } else { Flow::End }
    }

    fn round(&mut self, event: &Event) -> Flow {
        if let Some(frames) = &mut self.frames {
            let size = self.output.size();
            frames.draw(event.source, self.clock.time(), size, &mut self.output.buffer);
        }
        if self.output.flush_if_full() { Flow::Continue } else { Flow::End }
    }

    /// Prepares for the events of a poll.
    pub fn begin_batch(&mut self) {
        if self.records.is_some() {
            record_clock::update();
        }
        self.look_for_new_version();
    }

    /// Writes the buffer before the next wait. Returns `false` if nothing more can be written.
    pub fn end_batch(&mut self) -> bool {
        self.clock.forget();
        self.output.flush()
    }

    /// Whether the limit of events is reached.
    pub fn is_done(&self) -> bool {
        self.shown >= self.limit
    }
}

/// Whether the library formats the events: nothing is selected, and no addresses are to be replaced by function names.
fn is_written_by_library(options: &Run, format: Format, sources: &[Source], vm: &Vm) -> Result<bool> {
    let selects = options.filter.is_some() || !options.columns.is_empty();
    Ok(match format {
        Format::Json => !selects && !options.symbols,
        // The next version may have other sources.
        Format::Text if options.reloads() => false,
        Format::Text => {
            let has_maps = sources.iter().any(|source| source.kind == SourceKind::Map);
            let has_stacks = sources.iter().any(|source| stack::is_of_stacks(source.ty.as_deref()));
            has_maps && !selects && !has_stacks && !stack_ids::has_stacks(vm)?
        }
        Format::Csv | Format::Raw => false,
    })
}
