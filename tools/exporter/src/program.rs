//! A program that runs, and its metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eunomia::types::Type;
use eunomia::vm::{SourceInfo, SourceKind};
use eunomia::{EventKind, Flow, Format, Vm};
use eunomia_records::{Entries, field, record_clock};
use serde_saphyr::Spanned;

use crate::config::{self, About, Kind, Problem};
use crate::logs::{Log, Queue};
use crate::metric::{Metric, Settings, Table, info};

/// Maximum number of batches of events in one turn, so that a scrape does not wait long.
const BATCHES: usize = 8;
/// Maximum number of batches of events of a replaced version. Its buffers cannot contain more.
const DRAIN: usize = 4096;

/// A program and its metrics.
pub struct Program {
    /// Its configuration.
    pub config: Spanned<config::Program>,
    /// Its metrics, in the order of the configuration.
    pub metrics: Vec<Metric>,
    /// Its package.
    pub package: Arc<[u8]>,
    /// Reads its events and maps.
    pub vm: Arc<Vm>,
    /// The counts of its events, by outcome.
    pub events: Events,
    /// Readings of maps that have failed, and the last reason.
    pub failures: u64,
    /// The metrics of each stream, by the index of the source.
    streams: Vec<Vec<usize>>,
    /// The types of the events of each source, as the vm has them.
    types: Vec<Option<Arc<Type>>>,
    maps: Vec<Map>,
    /// Gauges that are variables.
    variables: Vec<(usize, String)>,
    /// The source whose events are pushed as logs.
    log: Option<(usize, Log)>,
}

/// What a program has counted that the next version of it does not count.
pub struct Former {
    /// Metrics, with their indices.
    metrics: Vec<(usize, Metric)>,
    maps: Vec<Map>,
}

/// The counts of the events of a program, by outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    /// At least one metric has counted them.
    pub counted: u64,
    /// No metric is about them, or conditions exclude them.
    pub ignored: u64,
    /// The kernel had no space for them.
    pub lost: u64,
}

/// A map that is read when it is scraped.
struct Map {
    name: String,
    /// The number that the kernel has given it; 0 before it is loaded.
    id: u64,
    entries: Entries,
    /// The metrics that read the map, each with the index of its first count in those of a value.
    metrics: Vec<(usize, usize)>,
    /// The number of counts of a value.
    width: usize,
    /// The counts of each entry when it was last read. At most as many entries as the map has.
    known: HashMap<Box<[u8]>, Known>,
    /// The number of the reading.
    reading: u64,
}

struct Known {
    reading: u64,
    counts: Box<[u64]>,
}

impl Program {
    /// Compiles the metrics for the package that `vm` reads. `logs` gets the events that are pushed.
    pub fn new(
        config: Spanned<config::Program>,
        package: Arc<[u8]>,
        vm: Arc<Vm>,
        logs: &Arc<Queue>,
    ) -> Result<Program, Problem> {
        let mut program = Program {
            metrics: Vec::new(),
            events: Events::default(),
            failures: 0,
            streams: Vec::new(),
            types: types(&vm),
            maps: Vec::new(),
            variables: Vec::new(),
            log: None,
            config,
            package,
            vm,
        };
        let config = program.config.clone();
        for (kind, metric) in config.value.metrics() {
            program.add(kind, metric)?;
        }
        if let Some(wanted) = &config.value.logs {
            let name = &config.value.name;
            let about = format!("program {name:?}: logs");
            let (source, ty) =
                program.stream(wanted.value.stream.as_deref()).about(wanted.referenced, about)?;
            let stream = program.vm.source_at(source).map(|info| info.name.to_string_lossy().into_owned());
            let log = Log::new(wanted, (name, &stream.unwrap_or_default()), &ty, logs)?;
            program.log = Some((source, log));
        }
        Ok(program)
    }

    fn add(&mut self, kind: Kind, entry: &Spanned<config::Metric>) -> Result<(), Problem> {
        let limits = &self.config.value.limits;
        let is_quoted = self.config.value.compat.is_some();
        let settings = Settings { series: limits.series, idle: limits.idle.0, is_quoted };
        let (wanted, position) = (&entry.value, entry.referenced);
        let what = format!("{} {:?}", kind.word(), wanted.name);
        let index = self.metrics.len();
        if kind == Kind::Info {
            let mut metric = Metric::without_records(kind, entry, settings)?;
            let read = |name: &str| self.vm.var_get_json(name).map_err(|error| error.message().to_owned());
            let labels = info(&metric.labels, &wanted.variables, read).about(position, &what)?;
            metric.table = Table::Info(labels);
            self.metrics.push(metric);
        } else if let Some(name) = &wanted.variable {
            let json = self.vm.var_get_json(name).map_err(|error| error.message().to_owned());
            number(&json.about(position, &what)?)
                .about(position, format_args!("{what}: variable {name:?}"))?;
            self.variables.push((index, name.clone()));
            self.metrics.push(Metric::without_records(kind, entry, settings)?);
        } else if let Some(name) = &wanted.map {
            let map = self.map(name).about(position, &what)?;
            let metric = Metric::new(kind, entry, &self.maps[map].entries.ty, true, settings)?;
            let map = &mut self.maps[map];
            map.metrics.push((index, map.width));
            map.width += metric.width();
            self.metrics.push(metric);
        } else {
            let (source, ty) = self.stream(wanted.stream.as_deref()).about(position, &what)?;
            let metric = Metric::new(kind, entry, &ty, false, settings)?;
            self.streams.resize(self.streams.len().max(source + 1), Vec::new());
            self.streams[source].push(index);
            self.metrics.push(metric);
        }
        Ok(())
    }

    /// The map called `name`, which is read once for all metrics that use it.
    fn map(&mut self, name: &str) -> Result<usize, String> {
        if let Some(index) = self.maps.iter().position(|map| map.name == name) {
            return Ok(index);
        }
        let found = self.vm.map_find(name);
        let info =
            found.map_err(|_| format!("the package has no map {name:?}; there are: {}", self.map_names()))?;
        let entries = Entries::new(&info).map_err(|error| error.to_string())?;
        self.maps.push(Map {
            name: name.to_owned(),
            id: map_id(info.fd),
            entries,
            metrics: Vec::new(),
            width: 0,
            known: HashMap::new(),
            reading: 0,
        });
        Ok(self.maps.len() - 1)
    }

    fn map_names(&self) -> String {
        let all = (0..self.vm.map_count().unwrap_or(0)).filter_map(|index| self.vm.map_at(index).ok());
        // Maps of sections of variables have a dot in their names.
        let names = all.map(|map| map.name.to_string_lossy().into_owned()).filter(|name| !name.contains('.'));
        names.collect::<Vec<_>>().join(", ")
    }

    /// The stream of events called `name`, or the only one.
    fn stream(&self, name: Option<&str>) -> Result<(usize, Arc<Type>), String> {
        let sources: Vec<(usize, SourceInfo)> = (0..self.vm.source_count().unwrap_or(0))
            .filter_map(|index| Some((index, self.vm.source_at(index).ok()?)))
            .filter(|(_, source)| source.kind != SourceKind::Map)
            .collect();
        let names: Vec<String> =
            sources.iter().map(|(_, source)| source.name.to_string_lossy().into_owned()).collect();
        let known = names.join(", ");
        let index = match (name, names.as_slice()) {
            (_, []) => {
                return Err("the package sends no events; add map, a map that is read at each scrape".into());
            }
            (None, [_]) => 0,
            (None, _) => {
                return Err(format!(
                    "the package has several streams of events; add stream, one of: {known}"
                ));
            }
            (Some(name), _) => {
                let found = names.iter().position(|known| known == name);
                found.ok_or_else(|| format!("the package has no stream {name:?}; there are: {known}"))?
            }
        };
        let (index, source) = &sources[index];
        let ty = source.ty.as_ref().ok_or_else(|| {
            format!(
                "the package does not specify the type of the events of {:?}",
                source.name.to_string_lossy()
            )
        })?;
        Ok((*index, field::record(ty).map_err(|error| error.to_string())?))
    }

    /// Continues the series of an earlier version of the program, and those that an even earlier one had. Returns the rest.
    pub fn inherit(&mut self, before: Program, former: Option<Former>) -> Former {
        let Program { metrics, events, failures, maps, .. } = before;
        (self.events, self.failures) = (events, failures);
        let metrics = self.continue_with(metrics.into_iter().enumerate().collect(), &maps);
        if let Some(former) = former {
            self.continue_with(former.metrics, &former.maps);
        }
        Former { metrics, maps }
    }

    /// Continues these series, which were counted with these maps. Returns the metrics that this version does not have.
    fn continue_with(&mut self, metrics: Vec<(usize, Metric)>, maps: &[Map]) -> Vec<(usize, Metric)> {
        // The index of the earlier version of each metric whose series continue.
        let mut earlier: Vec<Option<usize>> = vec![None; self.metrics.len()];
        let mut rest = Vec::new();
        for (index, old) in metrics {
            match self.metrics.iter().position(|metric| metric.continues(&old)) {
                Some(found) => {
                    self.metrics[found].inherit(old);
                    earlier[found] = Some(index);
                }
                None => rest.push((index, old)),
            }
        }
        for map in &mut self.maps {
            // The entries of a new map begin at 0.
            if let Some(old) = maps.iter().find(|old| old.name == map.name && old.id == map.id) {
                let widths: Vec<usize> =
                    map.metrics.iter().map(|(metric, _)| self.metrics[*metric].width()).collect();
                map.inherit(old, &earlier, &widths);
            }
        }
        rest
    }

    /// Counts the events that wait. The error is one line.
    pub fn poll(&mut self, now: u32) -> Result<(), String> {
        let Program { metrics, vm, events, streams, log, .. } = self;
        record_clock::update();
        for _ in 0..BATCHES {
            let polled = vm.poll_batch(Some(Duration::ZERO), |records| {
                match records.kind {
                    EventKind::Sample => {
                        let log = log_of(log, records.source_index);
                        let wanted = streams.get(records.source_index).map_or(&[][..], Vec::as_slice);
                        for record in records.data {
                            count(metrics, wanted, log, record, now, events);
                        }
                    }
                    EventKind::Lost => events.lost += records.lost,
                    _ => {}
                }
                Flow::Continue
            });
            match polled {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(error.message().to_owned()),
            }
        }
        Ok(())
    }

    /// Reads what an earlier version has sent, after the loader has switched to the next one. Returns records
    /// of the next version that arrived in that time, by the index of their source.
    pub fn drain(&mut self, now: u32) -> Vec<(usize, Vec<u8>)> {
        let types: Vec<_> =
            (0..self.streams.len()).map(|index| self.types.get(index).cloned().flatten()).collect();
        let mut next = Vec::new();
        let Program { metrics, vm, events, streams, log, .. } = self;
        for _ in 0..DRAIN {
            let polled = vm.poll_batch(Some(Duration::ZERO), |records| {
                let is_own = |ty: &Option<Arc<Type>>| match (ty, records.ty) {
                    (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                    (one, other) => one.is_none() && other.is_none(),
                };
                match records.kind {
                    EventKind::Sample if types.get(records.source_index).is_none_or(is_own) => {
                        let log = log_of(log, records.source_index);
                        let wanted = streams.get(records.source_index).map_or(&[][..], Vec::as_slice);
                        records
                            .data
                            .iter()
                            .for_each(|record| count(metrics, wanted, log, record, now, events));
                    }
                    EventKind::Sample => {
                        next.extend(
                            records.data.iter().map(|record| (records.source_index, record.to_vec())),
                        );
                    }
                    EventKind::Lost => events.lost += records.lost,
                    _ => {}
                }
                Flow::Continue
            });
            if polled.is_err() || vm.drained().unwrap_or(true) {
                break;
            }
        }
        next
    }

    /// Counts records that were read before this version was compiled.
    pub fn replay(&mut self, records: &[(usize, Vec<u8>)], now: u32) {
        let Program { metrics, streams, events, log, .. } = self;
        for (source, record) in records {
            let wanted = streams.get(*source).map_or(&[][..], Vec::as_slice);
            count(metrics, wanted, log_of(log, *source), record, now, events);
        }
    }

    /// Reads all maps and variables.
    pub fn read(&mut self, now: u32) {
        for index in 0..self.maps.len() {
            if let Err(why) = self.read_map(index, now) {
                self.failures += 1;
                crate::say(format_args!("program {:?}: {why}", self.config.value.name));
            }
        }
        for (index, name) in &self.variables {
            let value = self.vm.var_get_json(name).map_err(|error| error.message().to_owned());
            match value.and_then(|json| number(&json)) {
                Ok(value) => self.metrics[*index].set(value),
                Err(_) => self.failures += 1,
            }
        }
    }

    fn read_map(&mut self, index: usize, now: u32) -> Result<(), String> {
        let Program { metrics, vm, maps, .. } = self;
        let Map { name, entries, metrics: own, width, known, reading, .. } = &mut maps[index];
        *reading += 1;
        for (metric, _) in own.iter() {
            metrics[*metric].begin_reading();
        }
        record_clock::update();
        let read = vm.map_each(name, Format::Raw, |entry| {
            let counts = match known.get_mut(entry.key) {
                // The kernel can return an entry twice while the map changes.
                Some(known) if known.reading == *reading => return Flow::Continue,
                Some(known) => {
                    known.reading = *reading;
                    &mut known.counts
                }
                None => {
                    let counts = vec![0; *width * entries.count].into();
                    let new = Known { reading: *reading, counts };
                    &mut known.entry(entry.key.into()).or_insert(new).counts
                }
            };
            for cpu in 0..entries.count {
                let record = entries.record(entry.key, entry.data, cpu);
                for (metric, start) in own.iter() {
                    let metric = &mut metrics[*metric];
                    let start = cpu * *width + start;
                    let end = start + metric.width();
                    metric.read(record, &mut counts[start..end], now);
                }
            }
            Flow::Continue
        });
        read.map_err(|error| error.message().to_owned())?;
        for (metric, _) in own.iter() {
            metrics[*metric].end_reading();
        }
        let current = *reading;
        // An entry that was removed begins at 0 if it returns.
        known.retain(|_, known| known.reading == current);
        Ok(())
    }
}

impl Map {
    /// Continues with the counts that an earlier version has read of the same map.
    fn inherit(&mut self, old: &Map, earlier: &[Option<usize>], widths: &[usize]) {
        let start =
            |index: usize| old.metrics.iter().find(|(metric, _)| *metric == index).map(|(_, start)| *start);
        let moves: Vec<(usize, usize, usize)> = self
            .metrics
            .iter()
            .zip(widths)
            .filter_map(|((metric, to), width)| Some((start(earlier[*metric]?)?, *to, *width)))
            .collect();
        let cpus = self.entries.count;
        for (key, known) in &old.known {
            let new = || Known { reading: known.reading, counts: vec![0; self.width * cpus].into() };
            let counts = &mut self.known.entry(key.clone()).or_insert_with(new).counts;
            for (from, to, width) in &moves {
                for cpu in 0..cpus {
                    let (from, to) = (cpu * old.width + from, cpu * self.width + to);
                    counts[to..to + width].copy_from_slice(&known.counts[from..from + width]);
                }
            }
        }
        self.reading = self.reading.max(old.reading);
    }
}

/// The types of the events of all sources.
fn types(vm: &Vm) -> Vec<Option<Arc<Type>>> {
    (0..vm.source_count().unwrap_or(0)).map(|index| vm.source_at(index).ok()?.ty).collect()
}

/// The number of the map of a descriptor.
fn map_id(fd: std::os::fd::RawFd) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let id = text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok());
    id.unwrap_or(0)
}

/// The log of a source.
fn log_of(log: &Option<(usize, Log)>, source: usize) -> Option<&Log> {
    log.as_ref().filter(|(index, _)| *index == source).map(|(_, log)| log)
}

/// Counts a record for all metrics of its stream, and for its log.
fn count(
    metrics: &mut [Metric],
    wanted: &[usize],
    log: Option<&Log>,
    record: &[u8],
    now: u32,
    events: &mut Events,
) {
    let mut is_counted = log.is_some_and(|log| log.note(record));
    for index in wanted {
        is_counted |= metrics[*index].count(record, now);
    }
    if is_counted {
        events.counted += 1;
    } else {
        events.ignored += 1;
    }
}

/// A variable as a number.
fn number(json: &str) -> Result<f64, String> {
    match json {
        "true" => Ok(1.0),
        "false" => Ok(0.0),
        _ => json.parse().map_err(|_| format!("is {json}, not a number")),
    }
}
