//! Converts configurations of ebpf_exporter.
//!
//! There, labels are the bytes of a key, one after the other, with sizes and padding. Here they are fields, which BTF describes: each
//! label becomes the field at its offset. The object of ebpf_exporter is used as it is.

mod buckets;
mod keys;
mod labels;
mod theirs;
mod yaml;

use std::path::Path;
use std::sync::Arc;

use eunomia::types::Type;
use eunomia::vm::MapInfo;
use eunomia::{Kind, Options, Vm};
use eunomia_records::field;
use serde_saphyr::{Location, Spanned};

use crate::config::{self, Problem};
use crate::source;
use labels::{Bytes, Member};
use theirs::{Counter, File, Histogram};

/// The beginning of the names that ebpf_exporter exposes.
const NAMESPACE: &str = "ebpf_exporter_";

/// How a configuration is converted.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether names begin with `ebpf_exporter_`, as before.
    pub keep_names: bool,
    /// Whether upper edges of exp2 are those of ebpf_exporter.
    pub compatible_edges: bool,
}

/// A converted configuration.
pub struct Converted {
    /// The configuration of the exporter.
    pub text: String,
    /// What was left out, one line each.
    pub warnings: Vec<String>,
}

/// Converts a configuration for an object. The error is one line.
pub fn convert(config: &Path, object: &Path, settings: Settings) -> Result<Converted, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", config.display());
    let text = config::read_text(config).map_err(|why| failed(&why))?;
    let file: File = config::parse(&text).map_err(|problem| failed(&problem))?;
    let package = source::read_package(object)?;
    let vm = open(&package, file.metrics.counters.iter().any(|counter| counter.value.perf_event_array));
    let vm = vm.map_err(|error| format!("{}: {}", object.display(), error.message()))?;
    let mut warnings = Vec::new();
    check(&file, &mut warnings).map_err(|problem| failed(&problem))?;
    let object = std::path::absolute(object).map_err(|error| error.to_string())?;
    let name = config.file_stem().map_or("program".into(), |stem| stem.to_string_lossy());
    let mut out = Out { vm, settings, text: String::new() };
    out.head(&file, &name, &object);
    out.metrics(&file).map_err(|problem| failed(&problem))?;
    // Names that ebpf_exporter accepts and Prometheus reserves, for example.
    config::File::parse(&out.text)
        .map_err(|problem| failed(&format_args!("cannot be converted: {}", problem.text)))?;
    Ok(Converted { text: out.text, warnings })
}

/// Opens the object. The types of events are known only after load.
fn open(package: &[u8], has_events: bool) -> eunomia::Result<Vm> {
    let vm = Vm::new(Options::new().skip_missing_hooks(true).log(|_, _| {}))?;
    vm.open(package, Kind::Json)?;
    if has_events {
        vm.load()?;
    }
    Ok(vm)
}

/// Refuses what the exporter does not have.
fn check(file: &File, warnings: &mut Vec<String>) -> Result<(), Problem> {
    let refuse = |position: Location, why: &str| Err(Problem::at(position, why));
    if let Some(programs) = &file.programs {
        let why = "programs: a configuration of ebpf_exporter 1 contains C source for BCC, which must be ported to libbpf first";
        return refuse(programs.referenced, why);
    }
    if let Some(groups) = &file.cgroup_id_map {
        let why = "cgroup_id_map: the exporter does not fill maps with control groups; use a label with the decoders cgroup and regexp";
        return refuse(groups.referenced, why);
    }
    let is_empty = file.metrics.counters.is_empty() && file.metrics.histograms.is_empty();
    match &file.tracing {
        Some(tracing) if is_empty => {
            refuse(tracing.referenced, "tracing: the exporter has no spans, and there are no metrics")
        }
        Some(tracing) => {
            let (line, column) = (tracing.referenced.line(), tracing.referenced.column());
            warnings.push(format!(
                "line {line}, column {column}: tracing is left out: the exporter has no spans"
            ));
            Ok(())
        }
        None if is_empty => refuse(Location::UNKNOWN, "there are no metrics"),
        None => Ok(()),
    }
}

/// The configuration that is written.
struct Out {
    vm: Vm,
    settings: Settings,
    text: String,
}

impl Out {
    fn line(&mut self, indentation: usize, key: &str, value: &str) {
        let space = if value.is_empty() { "" } else { " " };
        self.text += &format!("{:indentation$}{key}:{space}{value}\n", "");
    }

    fn head(&mut self, file: &File, name: &str, object: &Path) {
        self.text += "# Converted from a configuration of ebpf_exporter.\n";
        let counters = file.metrics.counters.iter().flat_map(|entry| &entry.value.labels);
        let mut all = counters.chain(file.metrics.histograms.iter().flat_map(|entry| &entry.value.labels));
        if all.any(|label| labels::marks_unknown(&label.value)) {
            self.text +=
                "# Values that a static_map does not have are shown as they are, without \"unknown:\".\n";
        }
        self.line(0, "programs", "");
        self.line(0, "- name", &yaml::scalar(name));
        self.line(2, "package", &yaml::scalar(&object.to_string_lossy()));
        if !file.kaddrs.is_empty() {
            self.line(2, "kaddrs", &yaml::list(file.kaddrs.iter().map(|name| yaml::scalar(name))));
        }
    }

    fn metrics(&mut self, file: &File) -> Result<(), Problem> {
        self.line(2, "metrics", "");
        if !file.metrics.counters.is_empty() {
            self.line(4, "counters", "");
        }
        for entry in &file.metrics.counters {
            let result = self.counter(&entry.value);
            result.map_err(|problem| about(entry, "counter", &entry.value.name, problem))?;
        }
        if !file.metrics.histograms.is_empty() {
            self.line(4, "histograms", "");
        }
        for entry in &file.metrics.histograms {
            let result = self.histogram(&entry.value);
            result.map_err(|problem| about(entry, "histogram", &entry.value.name, problem))?;
        }
        Ok(())
    }

    fn begin(&mut self, name: &str, help: &str) {
        let namespace = if self.settings.keep_names { NAMESPACE } else { "" };
        self.line(4, "- name", &yaml::scalar(&format!("{namespace}{name}")));
        if !help.is_empty() {
            self.line(6, "description", &yaml::scalar(help));
        }
    }

    fn counter(&mut self, counter: &Counter) -> Result<(), Problem> {
        self.begin(&counter.name, &counter.help);
        if counter.perf_event_array {
            return self.events(counter);
        }
        let map = self.map(&counter.name)?;
        self.line(6, "map", &yaml::scalar(&counter.name));
        self.value(&map)?;
        let (list, has_cpu) = without_cpu(&counter.labels, &map);
        let key = key_type(&map)?;
        let bytes = Bytes { what: "key", path: "key", ty: &key, size: map.key_size as usize };
        // A counter without labels has one entry.
        let fields = if list.is_empty() { Vec::new() } else { labels::fields(list, bytes)? };
        if has_cpu {
            self.line(6, "cpu", "true");
        }
        self.labels(&fields)
    }

    /// A counter of events.
    fn events(&mut self, counter: &Counter) -> Result<(), Problem> {
        let all = (0..self.vm.source_count().unwrap_or(0)).filter_map(|index| self.vm.source_at(index).ok());
        let source = all.into_iter().find(|source| source.name.to_string_lossy() == *counter.name);
        let source =
            source.ok_or_else(|| plain(format!("the object has no perf buffer {:?}", counter.name)))?;
        let ty = source.ty.as_ref().and_then(|ty| field::record(ty).ok()).ok_or_else(|| {
            plain("the BTF of the object does not have the struct of its events; add `const struct NAME *unused;` to the program, with the name of the struct".into())
        })?;
        self.line(6, "stream", &yaml::scalar(&counter.name));
        let bytes = Bytes { what: "event", path: "", ty: &ty, size: ty.size };
        let fields =
            if counter.labels.is_empty() { Vec::new() } else { labels::fields(&counter.labels, bytes)? };
        self.labels(&fields)
    }

    fn histogram(&mut self, histogram: &Histogram) -> Result<(), Problem> {
        self.begin(&histogram.name, &histogram.help);
        let map = self.map(&histogram.name)?;
        let key = key_type(&map)?;
        let bytes = Bytes { what: "key", path: "key", ty: &key, size: map.key_size as usize };
        let mut fields = labels::fields(&histogram.labels, bytes)?;
        let (_, from, _) =
            fields.pop().ok_or_else(|| plain("the last label is the bucket, and there is none".into()))?;
        let converted = buckets::convert(&from, histogram, self.settings.compatible_edges).map_err(plain)?;
        self.line(6, "map", &yaml::scalar(&histogram.name));
        self.value(&map)?;
        self.line(6, "bucket", &converted.bucket);
        self.line(6, "buckets", &converted.buckets);
        let scale = buckets::scale(histogram);
        if scale != 1.0 {
            self.line(6, "scale", &scale.to_string());
        }
        self.labels(&fields)
    }

    fn map(&self, name: &str) -> Result<MapInfo, Problem> {
        self.vm.map_find(name).map_err(|_| {
            plain(format!("the object has no map named {name:?}; the map must have the name of the metric"))
        })
    }

    /// The value of a map: an integer, or a struct with one of 8 bytes.
    fn value(&mut self, map: &MapInfo) -> Result<(), Problem> {
        let Some(ty) = &map.value_type else { return Err(plain("the map has no BTF of its values".into())) };
        let found = keys::member("value", ty, 0, ty.size.min(8));
        let (path, _) =
            found.ok_or_else(|| plain(format!("the value is not an integer; {}", keys::layout(ty))))?;
        if path != "value" {
            self.line(6, "value", &yaml::scalar(&path));
        }
        Ok(())
    }

    fn labels(&mut self, fields: &[Member]) -> Result<(), Problem> {
        if !fields.is_empty() {
            self.line(6, "labels", "");
        }
        for (label, path, ty) in fields {
            let converted = labels::convert(label, path.clone(), ty)?;
            self.text += &format!("      - {converted}\n");
        }
        Ok(())
    }
}

/// `BPF_MAP_TYPE_PERCPU_HASH`, `PERCPU_ARRAY` and `LRU_PERCPU_HASH`.
const PER_CPU: [u32; 3] = [5, 6, 10];

/// The labels without the CPU: in per-CPU maps, a last label of two bytes called `cpu` is not part of the key.
fn without_cpu<'a>(
    labels: &'a [Spanned<theirs::Label>],
    map: &MapInfo,
) -> (&'a [Spanned<theirs::Label>], bool) {
    match labels.split_last() {
        Some((last, rest))
            if PER_CPU.contains(&map.kind) && last.value.name == "cpu" && last.value.size == 2 =>
        {
            (rest, true)
        }
        _ => (labels, false),
    }
}

fn key_type(map: &MapInfo) -> Result<Arc<Type>, Problem> {
    map.key_type.clone().ok_or_else(|| plain("the map has no BTF of its keys".into()))
}

/// A problem without a position of its own.
fn plain(text: String) -> Problem {
    Problem { line: 0, column: 0, text }
}

fn about<T>(entry: &Spanned<T>, kind: &str, name: &str, problem: Problem) -> Problem {
    let text = format!("{kind} {name:?}: {}", problem.text);
    match problem.line {
        0 => Problem::at(entry.referenced, text),
        _ => Problem { text, ..problem },
    }
}
