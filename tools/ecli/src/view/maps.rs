//! The maps of `--map`: entries as the library writes them, stacks by their functions, maps of maps by what they hold.

use std::fs;

use eunomia::vm::{LostKnown, MapInfo, SourceInfo, SourceKind};
use eunomia::{Event, EventKind, Flow, Vm};
use serde_json::Value;

use super::clock::Clock;
use super::map_entry::Entries;
use super::stack::{self, Processes};
use super::symbolized::NamedJson;
use super::table::Table;
use super::writer::Writer;
use crate::column::Column;
use crate::error::Result;
use crate::options::Format;
use crate::output::Output;
use crate::symbols::Symbols;
use crate::terminal::Style;

/// `BPF_MAP_TYPE_ARRAY_OF_MAPS` and `BPF_MAP_TYPE_HASH_OF_MAPS`.
const OF_MAPS: [u32; 2] = [12, 13];

/// How one map is printed.
pub struct MapView {
    name: String,
    form: eunomia::Format,
    how: How,
}

enum How {
    /// As the library writes it.
    Plain,
    /// With functions in place of addresses.
    Stacks(Box<(Entries, Writer)>),
    /// With the ids and names of the package's maps, of which it may hold some.
    OfMaps(Vec<(u64, String)>),
}

impl MapView {
    /// For the map of that name. Functions on stacks are named where there are `symbols`.
    pub fn new(
        vm: &Vm,
        name: &str,
        format: Format,
        symbols: Option<&Symbols>,
        style: Style,
    ) -> Result<MapView> {
        let map = vm.map_find(name)?;
        let form = if format == Format::Json { eunomia::Format::Json } else { eunomia::Format::Text };
        let how = match stacks(&map, format, symbols, style)? {
            _ if OF_MAPS.contains(&map.kind) => How::OfMaps(ids(vm)?),
            Some(stacks) => How::Stacks(stacks.into()),
            None => How::Plain,
        };
        Ok(MapView { name: name.to_owned(), form, how })
    }

    /// Whether functions are named.
    pub fn has_stacks(&self) -> bool {
        matches!(self.how, How::Stacks(..))
    }

    /// Prints what the map holds now.
    pub fn print(&mut self, vm: &Vm, clock: &mut Clock, output: &mut Output) -> Result<()> {
        if self.form == eunomia::Format::Text {
            output.buffer.extend_from_slice(format!("{}:\n", self.name).as_bytes());
        }
        match &mut self.how {
            How::Plain => each(vm, &self.name, self.form, |event| {
                output.buffer.extend_from_slice(event.data);
                output.buffer.push(b'\n');
            }),
            How::Stacks(stacks) => each(vm, &self.name, eunomia::Format::Raw, |event| {
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
            How::OfMaps(known) => of_maps(vm, &self.name, self.form, known, &mut output.buffer),
        }
    }
}

/// What writes the entries of a map that holds stacks.
fn stacks(
    map: &MapInfo,
    format: Format,
    symbols: Option<&Symbols>,
    style: Style,
) -> Result<Option<(Entries, Writer)>> {
    let Some(symbols) = symbols.cloned() else { return Ok(None) };
    let source = SourceInfo {
        name: map.name.clone(),
        kind: SourceKind::Map,
        interval_ms: 0,
        record_size: map.value_size,
        ty: map.value_type.clone(),
        key_ty: map.key_type.clone(),
        events: 0,
        lost: 0,
        lost_known: LostKnown::All,
    };
    let entries = Entries::new(&source, map)?;
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

/// The ids that the kernel has given the maps of a package, and their names.
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

/// Prints a map of maps: of each its id, and of those of the package their names and what they hold.
fn of_maps(
    vm: &Vm,
    name: &str,
    form: eunomia::Format,
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
        let mut held = Vec::new();
        // Buffers and the like hold nothing that could be listed.
        let is_listed = inner.is_some_and(|inner| {
            each(vm, inner, form, |event| held.push(String::from_utf8_lossy(event.data).into_owned())).is_ok()
        });
        let text = if form == eunomia::Format::Text {
            let label = inner.map_or(String::new(), |inner| format!("{inner} "));
            let held: String = held.iter().map(|line| format!("  {line}\n")).collect();
            format!("{key} {label}(map {id})\n{held}")
        } else {
            let label =
                inner.map_or(String::new(), |inner| format!(",\"name\":{}", Value::from(inner.as_str())));
            let held = if is_listed { format!(",\"entries\":[{}]", held.join(",")) } else { String::new() };
            format!("{{\"key\":{key},\"value\":{{\"id\":{id}{label}{held}}}}}\n")
        };
        out.extend_from_slice(text.as_bytes());
    }
    Ok(())
}

fn each(vm: &Vm, name: &str, form: eunomia::Format, mut take: impl FnMut(&Event)) -> Result<()> {
    vm.map_each(name, form, &mut |event: &Event| {
        if event.kind == EventKind::MapEntry {
            take(event);
        }
        Flow::Continue
    })?;
    Ok(())
}
