//! The checks of a configuration that need no package: of names, and of keys that exclude or require each other.

use std::collections::BTreeSet;

use serde_saphyr::{Location, Spanned};

use super::{About, Buckets, File, Kind, Label, MAX_METRICS, MAX_PROGRAMS, Metric, Problem, Program};
use crate::{source, unit};

/// Maximum number of series of a metric, and of labels.
const MAX_SERIES: usize = 1_000_000;
const MAX_LABELS: usize = 32;
/// Maximum length of a name or constant, in bytes.
const MAX_NAME: usize = 256;

/// Checks all programs.
pub fn file(file: &File) -> Result<(), Problem> {
    if file.programs.len() > MAX_PROGRAMS {
        let text =
            format!("there are {} programs; at most {MAX_PROGRAMS} are supported", file.programs.len());
        return Err(Problem::at(file.programs[MAX_PROGRAMS].referenced, text));
    }
    let (mut programs, mut metrics) = (BTreeSet::new(), BTreeSet::new());
    for entry in &file.programs {
        program(entry)?;
        if !programs.insert(&entry.value.name) {
            let text = format!("there are two programs called {:?}", entry.value.name);
            return Err(Problem::at(entry.referenced, text));
        }
        for (_, metric) in entry.value.metrics() {
            if !metrics.insert(&metric.value.name) {
                let text = format!("there are two metrics called {:?}", metric.value.name);
                return Err(Problem::at(metric.referenced, text));
            }
        }
    }
    Ok(())
}

/// Checks a program.
pub fn program(entry: &Spanned<Program>) -> Result<(), Problem> {
    let program = &entry.value;
    let problem = |text: String| Problem::at(entry.referenced, text);
    if program.name.is_empty() || program.name.len() > MAX_NAME {
        return Err(problem(format!("the name of a program must have 1 to {MAX_NAME} bytes")));
    }
    let name = &program.name;
    check_package(program).map_err(|why| problem(format!("program {name:?} {why}")))?;
    if let Some(other) = program.compat.as_deref().filter(|compat| *compat != "quotes") {
        return Err(problem(format!("program {name:?}: compat: expected quotes, found {other:?}")));
    }
    check_series(program.limits.series).about(entry.referenced, format_args!("program {name:?}: limits"))?;
    if program.metrics().count() > MAX_METRICS {
        return Err(problem(format!("program {name:?} has more than {MAX_METRICS} metrics")));
    }
    let mut names = BTreeSet::new();
    for (kind, metric) in program.metrics() {
        check_metric(kind, metric)?;
        if !names.insert(&metric.value.name) {
            let text = format!("there are two metrics called {:?}", metric.value.name);
            return Err(Problem::at(metric.referenced, text));
        }
    }
    Ok(())
}

/// The keys about the package of a program.
fn check_package(program: &Program) -> Result<(), String> {
    let sources = [
        ("ebpf_data", !program.ebpf_data.is_empty()),
        ("compiled_ebpf_filename", !program.compiled_ebpf_filename.is_empty()),
        ("package", program.package.is_some()),
    ];
    let given: Vec<&str> = sources.iter().filter(|(_, is_set)| *is_set).map(|(key, _)| *key).collect();
    match given.as_slice() {
        [] => return Err("has no package: add package, the file that ecc has written".into()),
        [_] => {}
        several => return Err(format!("has {}; keep one of them", several.join(" and "))),
    }
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digest) = program.digest().filter(|digest| !is_digest(digest)) {
        return Err(format!("has the digest {digest:?}: sha256 has 64 hexadecimal digits"));
    }
    if program.trust.is_some() && !program.require_signed {
        return Err("has trust, but not require_signed: true".into());
    }
    if program.signature.is_some() && program.ebpf_data.is_empty() {
        return Err("has signature, which belongs to ebpf_data; that of a file is FILE.minisig".into());
    }
    Ok(())
}

/// Refuses a package that would be downloaded. A caller must not make the exporter connect to other machines.
pub fn is_local(entry: &Spanned<Program>) -> Result<(), Problem> {
    match &entry.value.package {
        Some(package) if !source::is_file(&package.value) => Err(Problem::at(
            package.referenced,
            format_args!(
                "program {:?}: package: {}: only the configuration file can name a package that is downloaded",
                entry.value.name,
                source::shown(&package.value)
            ),
        )),
        _ => Ok(()),
    }
}

fn check_series(series: usize) -> Result<(), String> {
    match (1..=MAX_SERIES).contains(&series) {
        true => Ok(()),
        false => Err(format!("series: expected 1 to {MAX_SERIES}, found {series}")),
    }
}

fn check_metric(kind: Kind, entry: &Spanned<Metric>) -> Result<(), Problem> {
    let (metric, position) = (&entry.value, entry.referenced);
    let what = format!("{} {:?}", kind.word(), metric.name);
    check_name(&metric.name, true).about(position, &what)?;
    check_ending(kind, &metric.name).about(position, &what)?;
    check_keys(kind, metric).about(position, &what)?;
    check_unit(metric).about(position, &what)?;
    metric.series.map_or(Ok(()), check_series).about(position, &what)?;
    if metric.labels.len() > MAX_LABELS {
        return Err(Problem::at(position, format_args!("{what} has more than {MAX_LABELS} labels")));
    }
    let mut names = BTreeSet::new();
    if metric.cpu {
        names.insert("cpu");
    }
    for label in &metric.labels {
        let position = if label.referenced == Location::UNKNOWN { position } else { label.referenced };
        check_label(kind, &label.value).about(position, &what)?;
        if !names.insert(&label.value.name) {
            let text = format!("{what}: there are two labels called {:?}", label.value.name);
            return Err(Problem::at(position, text));
        }
    }
    Ok(())
}

/// A name of a metric or a label, by the rules of Prometheus.
fn check_name(name: &str, is_metric: bool) -> Result<(), String> {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || is_metric && byte == b':';
    let is_valid =
        name.bytes().enumerate().all(|(at, byte)| is_letter(byte) || at > 0 && byte.is_ascii_digit());
    match is_valid && !name.is_empty() && name.len() <= MAX_NAME {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is not a name for Prometheus: it consists of letters, digits and underscores, and does not begin with a digit"
        )),
    }
}

/// Endings that Prometheus adds itself.
fn check_ending(kind: Kind, name: &str) -> Result<(), String> {
    let reserved: &[&str] = match kind {
        // eunomia-bpf allows counters with all other endings.
        Kind::Counter => &["_bucket", "_created"],
        Kind::Gauge | Kind::Histogram => &["_total", "_bucket", "_count", "_sum", "_created", "_info"],
        Kind::Info => &["_total", "_bucket", "_count", "_sum", "_created"],
    };
    match reserved.iter().find(|ending| name.ends_with(**ending)) {
        Some(ending) => Err(format!("the name of a {} must not end in {ending}", kind.word())),
        None => Ok(()),
    }
}

fn check_label(kind: Kind, label: &Label) -> Result<(), String> {
    check_name(&label.name, false)?;
    let name = &label.name;
    if name.starts_with("__") || name == "le" && kind == Kind::Histogram {
        return Err(format!("label {name:?}: Prometheus reserves this name"));
    }
    if let Some(value) = &label.value {
        if !label.from.is_empty() || !label.format.is_empty() || label.regexp.is_some() {
            return Err(format!("label {name:?}: a constant has only name and value"));
        }
        if value.len() > MAX_NAME {
            return Err(format!("label {name:?}: the value has more than {MAX_NAME} bytes"));
        }
    } else if kind == Kind::Info {
        return Err(format!("label {name:?}: the labels of an info are constants (value) and variables"));
    }
    Ok(())
}

/// The keys of a metric that belong to its kind and source, so that nothing in the file is without effect.
fn check_keys(kind: Kind, metric: &Metric) -> Result<(), String> {
    let (is_map, has_buckets) = (metric.map.is_some(), metric.bucket.is_some());
    let set = [
        ("stream", metric.stream.is_some(), !is_map && matches!(kind, Kind::Counter | Kind::Histogram)),
        ("map", is_map, kind != Kind::Info),
        ("where", metric.condition.is_some(), kind != Kind::Info && metric.variable.is_none()),
        ("add", metric.add.is_some(), kind == Kind::Counter && !is_map),
        (
            "value",
            metric.value.is_some(),
            is_map && (has_buckets || matches!(kind, Kind::Counter | Kind::Gauge)),
        ),
        ("variable", metric.variable.is_some(), kind == Kind::Gauge && !is_map),
        ("variables", !metric.variables.is_empty(), kind == Kind::Info),
        ("observe", metric.observe.is_some(), kind == Kind::Histogram && !is_map),
        ("bucket", metric.bucket.is_some(), kind == Kind::Histogram && is_map),
        ("slots", metric.slots.is_some(), kind == Kind::Histogram && is_map && !has_buckets),
        ("sum", metric.sum.is_some(), kind == Kind::Histogram && is_map && !has_buckets),
        ("buckets", metric.buckets.is_some(), kind == Kind::Histogram),
        ("unit", metric.unit.is_some(), kind != Kind::Info),
        ("scale", metric.scale.is_some(), kind != Kind::Info && metric.unit.is_none()),
        ("cpu", metric.cpu, is_map),
        ("series", metric.series.is_some(), kind != Kind::Info),
    ];
    if let Some((key, ..)) = set.iter().find(|(_, is_set, is_allowed)| *is_set && !is_allowed) {
        let source = match (kind, is_map) {
            (Kind::Info, _) => "an info".to_owned(),
            (_, true) if has_buckets => format!("a {} with bucket", kind.word()),
            (_, true) => format!("a {} of a map", kind.word()),
            (_, false) => format!("a {} without map", kind.word()),
        };
        return Err(match *key {
            "scale" => "unit and scale are mutually exclusive".into(),
            key => format!("{source} has no key {key:?}"),
        });
    }
    match kind {
        Kind::Gauge if !is_map && metric.variable.is_none() => {
            Err("a gauge needs map, the map that is read, or variable, a global variable".into())
        }
        Kind::Histogram if !is_map && metric.observe.is_none() => {
            Err("a histogram needs observe, a field of the events, or map and slots".into())
        }
        Kind::Histogram if has_buckets => check_bucket(metric),
        Kind::Histogram if is_map => match metric.buckets {
            None | Some(Buckets::Log2(_) | Buckets::Linear { .. }) => Ok(()),
            // Edges in the file and slots in the kernel would have to agree, which nothing can check.
            _ => Err("buckets: the slots of a map are log2 or linear(WIDTH, COUNT)".into()),
        },
        _ => Ok(()),
    }
}

/// Whether the numbers of the buckets and their edges agree.
fn check_bucket(metric: &Metric) -> Result<(), String> {
    let keys = metric.bucket.as_ref().map_or(&[][..], |bucket| &bucket.keys);
    if let Some(pair) = keys.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(format!("bucket: keys: {} is not larger than the key before it", pair[1]));
    }
    match &metric.buckets {
        Some(Buckets::Explicit(edges))
            if !keys.is_empty() && ![0, 1].contains(&keys.len().wrapping_sub(edges.len())) =>
        {
            Err(format!(
                "bucket: {} keys for {} upper edges; there is one key for each, and perhaps one for everything above",
                keys.len(),
                edges.len()
            ))
        }
        Some(Buckets::Explicit(_)) => Ok(()),
        Some(Buckets::Native { .. }) => {
            Err("buckets: those of a map are log2, linear(WIDTH, COUNT), or a list of upper edges".into())
        }
        _ if keys.is_empty() => Ok(()),
        _ => Err("bucket: keys need buckets, the list of upper edges".into()),
    }
}

fn check_unit(metric: &Metric) -> Result<(), String> {
    if let Some(scale) = metric.scale.filter(|scale| !scale.is_finite() || *scale <= 0.0) {
        return Err(format!("scale: expected a number above 0, found {scale}"));
    }
    let Some(text) = &metric.unit else { return Ok(()) };
    let unit =
        unit::find(text).ok_or_else(|| format!("unit: expected one of {}, found {text:?}", unit::words()))?;
    let base = metric.name.strip_suffix("_total").unwrap_or(&metric.name);
    match base.strip_suffix(unit.base).is_some_and(|rest| rest.ends_with('_')) {
        true => Ok(()),
        false => Err(format!(
            "unit {text:?} is converted to {0}, so the name must end in _{0} (a counter in _{0}_total)",
            unit.base
        )),
    }
}
