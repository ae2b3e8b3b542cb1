//! Prints the maps of `--map`: entries as the library formats them, stacks as function names, and nested maps.

use std::fs;

use eunomia::internal::constants::map_type;
use eunomia::vm::MapInfo;
use eunomia::{Event, EventKind, Flow, Vm};
use serde_json::Value;

use super::clock::Clock;
use super::stack::{self, Processes};
use super::symbolized::NamedJson;
use super::table::Table;
use super::writer::Writer;
use crate::error::Result;
use crate::options::Format;
use crate::output::Output;
use crate::symbols::Symbols;
use crate::terminal::Style;
use eunomia_records::Entries;
use eunomia_records::column::Column;

/// Types of maps of maps.
const OF_MAPS: [u32; 2] = [map_type::ARRAY_OF_MAPS, map_type::HASH_OF_MAPS];

/// Prints one map.
pub struct MapView {
    name: String,
    format: eunomia::Format,
    content: Content,
}

enum Content {
    /// Entries as the library formats them.
    Plain,
    /// Stacks as function names.
    Stacks(Box<(Entries, Writer)>),
    /// Nested maps. Holds the ids and names of the maps of the package.
    OfMaps(Vec<(u64, String)>),
}

impl MapView {
    /// Creates a printer of the map called `name`. Stacks are printed as function names if there are `symbols`.
    pub fn new(
        vm: &Vm,
        name: &str,
        format: Format,
        symbols: Option<&Symbols>,
        style: Style,
    ) -> Result<MapView> {
        let map = vm.map_find(name)?;
        let delivered = if format == Format::Json { eunomia::Format::Json } else { eunomia::Format::Text };
        let content = match stacks(&map, format, symbols, style)? {
            _ if OF_MAPS.contains(&map.kind) => Content::OfMaps(ids(vm)?),
            Some(stacks) => Content::Stacks(stacks.into()),
            None => Content::Plain,
        };
        Ok(MapView { name: name.to_owned(), format: delivered, content })
    }

    /// Whether it prints function names.
    pub fn has_stacks(&self) -> bool {
        matches!(self.content, Content::Stacks(..))
    }

    /// Prints the current entries.
    pub fn print(&mut self, vm: &Vm, clock: &mut Clock, output: &mut Output) -> Result<()> {
        if self.format == eunomia::Format::Text {
            output.buffer.extend_from_slice(format!("{}:\n", self.name).as_bytes());
        }
        match &mut self.content {
            Content::Plain => each(vm, &self.name, self.format, |event| {
                output.buffer.extend_from_slice(event.data);
                output.buffer.push(b'\n');
            }),
            Content::Stacks(stacks) => each(vm, &self.name, eunomia::Format::Raw, |event| {
                let (entries, writer) = &mut **stacks;
                for index in 0..entries.count {
                    writer.write(
                        event.key,
                        entries.record(event.key, event.data, index),
                        false,
                        clock,
                        output,
                    );
                }
            }),
            Content::OfMaps(known) => of_maps(vm, &self.name, self.format, known, &mut output.buffer),
        }
    }
}

/// The writer of a map that contains stacks.
fn stacks(
    map: &MapInfo,
    format: Format,
    symbols: Option<&Symbols>,
    style: Style,
) -> Result<Option<(Entries, Writer)>> {
    let Some(symbols) = symbols.cloned() else { return Ok(None) };
    let entries = Entries::new(map)?;
    let columns = Column::of(&entries.ty, &entries.columns())?;
    if !columns.iter().any(stack::is_stack) {
        return Ok(None);
    }
    let ty = &entries.ty;
    let writer = match format {
        Format::Json => NamedJson::new(Column::of(ty, &[])?, Processes::new(ty), symbols)
            .map(|named| Writer::Named(named.into())),
        _ => Some(Writer::Table(Table::new(columns, ty, style, symbols).into())),
    };
    Ok(writer.map(|writer| (entries, writer)))
}

/// The kernel ids of the maps of a package, and their names.
fn ids(vm: &Vm) -> Result<Vec<(u64, String)>> {
    let mut ids = Vec::new();
    for index in 0..vm.map_count()? {
        let map = vm.map_at(index)?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd)).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok());
        ids.extend(id.map(|id| (id, map.name.to_string_lossy().into_owned())));
    }
    Ok(ids)
}

/// Prints a map of maps: the id of each nested map, and the name and entries of those that belong to the package.
fn of_maps(
    vm: &Vm,
    name: &str,
    format: eunomia::Format,
    known: &[(u64, String)],
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut entries = Vec::new();
    each(vm, name, eunomia::Format::Json, |event| {
        let id = serde_json::from_slice::<Value>(event.data).ok().and_then(|entry| entry["value"].as_u64());
        entries.push((String::from_utf8_lossy(event.key).into_owned(), id.unwrap_or_default()));
    })?;
    for (key, id) in entries {
        let inner = known.iter().find(|(known, _)| *known == id).map(|(_, name)| name);
        let mut entries = Vec::new();
        // Some kinds of maps, such as buffers, have no entries.
        let is_listed = inner.is_some_and(|inner| {
            each(vm, inner, format, |event| entries.push(String::from_utf8_lossy(event.data).into_owned()))
                .is_ok()
        });
        let text = if format == eunomia::Format::Text {
            let label = inner.map_or(String::new(), |inner| format!("{inner} "));
            let entries: String = entries.iter().map(|line| format!("  {line}\n")).collect();
            format!("{key} {label}(map {id})\n{entries}")
        } else {
            let label =
                inner.map_or(String::new(), |inner| format!(",\"name\":{}", Value::from(inner.as_str())));
            let entries =
                if is_listed { format!(",\"entries\":[{}]", entries.join(",")) } else { String::new() };
            format!("{{\"key\":{key},\"value\":{{\"id\":{id}{label}{entries}}}}}\n")
        };
        out.extend_from_slice(text.as_bytes());
    }
    Ok(())
}

fn each(vm: &Vm, name: &str, format: eunomia::Format, mut take: impl FnMut(&Event)) -> Result<()> {
    vm.map_each(name, format, |event: &Event| {
        if event.kind == EventKind::MapEntry {
            take(event);
        }
        Flow::Continue
    })?;
    Ok(())
}
