//! One metric, compiled for the types of a package, and its series.

use std::sync::Arc;

use eunomia::types::{Field, Kind as TypeKind, Type};
use eunomia_records::{Filter, field};
use serde_saphyr::{Location, Spanned};

use crate::config::{self, About, Bucket, Buckets, Kind, Problem};
use crate::histogram::{Distribution, Edges, Place};
use crate::labels::{self, Context, Labels, Values};
use crate::largest::Largest;
use crate::series::Series;
use crate::unit;

/// A metric with its series.
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its description for users.
    pub help: String,
    /// Its kind.
    pub kind: Kind,
    /// The unit in which it is shown.
    pub unit: Option<&'static str>,
    /// The factor from the values in the kernel to those that are shown.
    pub scale: f64,
    /// Its labels.
    pub labels: Labels,
    /// Its series.
    pub table: Table,
    /// The amount that a record of an event, or an entry of a map, adds to its series.
    amount: Amount,
    filter: Option<Filter>,
    /// The bytes of the labels of the current record.
    key: Vec<u8>,
}

/// Series, by the kind of the metric.
pub enum Table {
    /// A number that grows.
    Counter(Series<u64>),
    /// A number.
    Gauge(Largest),
    /// A distribution.
    Histogram(Series<Distribution>, Edges),
    /// The labels are the value.
    Info(Vec<(String, String)>),
}

/// The amount that a record adds to a metric.
pub enum Amount {
    /// 1.
    One,
    /// An integer.
    Integer(Field),
    /// A floating-point number.
    Float(Field),
    /// An array of counts, and the field with their sum.
    Slots {
        /// The array.
        slots: Field,
        /// The sum of the values that are counted.
        sum: Option<Field>,
    },
    /// A count, of the bucket whose number the entry has.
    Entry {
        /// The number.
        number: Field,
        /// The count.
        count: Field,
        /// The buckets.
        bucket: Bucket,
    },
}

/// Settings of all metrics of a program.
#[derive(Clone, Copy)]
pub struct Settings {
    /// The budget and the idle time.
    pub series: usize,
    /// In seconds.
    pub idle: u32,
    /// Whether strings have quotes.
    pub is_quoted: bool,
}

impl Metric {
    /// Compiles a metric for records of a type. `is_entry`: they are entries of a map.
    pub fn new(
        kind: Kind,
        entry: &Spanned<config::Metric>,
        record: &Arc<Type>,
        is_entry: bool,
        settings: Settings,
    ) -> Result<Metric, Problem> {
        let (wanted, position) = (&entry.value, entry.referenced);
        let what = format!("{} {:?}", kind.word(), wanted.name);
        let context = Context { record, is_entry, is_quoted: settings.is_quoted };
        let labels = Labels::new(&wanted.labels, wanted.cpu, context)
            .map_err(|problem| Problem { text: format!("{what}: {}", problem.text), ..problem })?;
        let filter = wanted.condition.as_deref().map(|text| Filter::parse(text, record, &[])).transpose();
        let filter = filter.about(position, format_args!("{what}: where"))?;
        let amount = Amount::new(kind, wanted, record, is_entry).about(position, &what)?;
        let edges = edges(wanted, &amount).about(position, &what)?;
        Ok(Metric::with(kind, wanted, labels, amount, settings, edges, filter))
    }

    fn with(
        kind: Kind,
        wanted: &config::Metric,
        labels: Labels,
        amount: Amount,
        settings: Settings,
        edges: Edges,
        filter: Option<Filter>,
    ) -> Metric {
        let unit = wanted.unit.as_deref().and_then(unit::find);
        let (budget, idle) = (wanted.series.unwrap_or(settings.series), settings.idle);
        let table = match kind {
            Kind::Counter => Table::Counter(Series::new(budget, idle)),
            Kind::Gauge => Table::Gauge(Largest::new(budget)),
            Kind::Histogram => Table::Histogram(Series::new(budget, idle), edges),
            Kind::Info => Table::Info(Vec::new()),
        };
        Metric {
            name: wanted.name.clone(),
            help: one_line(&wanted.description, &wanted.name),
            kind,
            unit: unit.map(|unit| unit.base),
            scale: unit.map(|unit| unit.factor).or(wanted.scale).unwrap_or(1.0),
            labels,
            table,
            amount,
            filter,
            key: Vec::new(),
        }
    }

    /// A metric without records: an info, or a gauge of a variable.
    pub fn without_records(
        kind: Kind,
        entry: &Spanned<config::Metric>,
        settings: Settings,
    ) -> Result<Metric, Problem> {
        let record = Type::bytes(0);
        let context = Context { record: &record, is_entry: false, is_quoted: settings.is_quoted };
        let labels = Labels::new(&entry.value.labels, false, context)?;
        Ok(Metric::with(kind, &entry.value, labels, Amount::One, settings, Edges::default(), None))
    }

    /// Counts a record of an event. Returns whether it was counted.
    pub fn count(&mut self, record: &[u8], now: u32) -> bool {
        if self.filter.as_ref().is_some_and(|filter| !filter.accepts(record)) {
            return false;
        }
        let Metric { labels, table, amount, key, scale, .. } = self;
        key.clear();
        labels.key(record, key);
        match table {
            Table::Counter(series) => {
                let added = amount.integer(record);
                let found = series.find(key, now, || labels.values(record), || labels.other());
                found.map(|total| *total = total.wrapping_add(added)).is_some()
            }
            Table::Histogram(series, edges) => {
                let value = amount.number(record);
                let found = series.find(key, now, || labels.values(record), || labels.other());
                found.map(|distribution| distribution.observe(value, edges, *scale)).is_some()
            }
            Table::Gauge(_) | Table::Info(_) => false,
        }
    }

    /// The number of counts that this metric keeps for each entry of a map. Only values that never decrease
    /// have one.
    pub fn width(&self) -> usize {
        match (&self.table, &self.amount) {
            (Table::Counter(_), _) | (Table::Histogram(..), Amount::Entry { .. }) => 1,
            (Table::Histogram(..), Amount::Slots { slots, sum }) => {
                slots.ty.count as usize + usize::from(sum.is_some())
            }
            _ => 0,
        }
    }

    /// Counts an entry of a map. `last` contains the counts of the previous reading, and gets the current ones.
    pub fn read(&mut self, record: &[u8], last: &mut [u64], now: u32) {
        if self.filter.as_ref().is_some_and(|filter| !filter.accepts(record)) {
            return;
        }
        let Metric { labels, table, amount, key, scale, .. } = self;
        if let Table::Gauge(series) = table {
            if let Some(values) = labels.values(record) {
                series.add(values, amount.number(record));
            }
            return;
        }
        key.clear();
        labels.key(record, key);
        match (table, &*amount) {
            (Table::Histogram(series, edges), Amount::Entry { number, count, bucket }) => {
                let added = growth(&mut last[0], positive(count, record));
                let Some(place) = Place::of(positive(number, record), bucket) else { return };
                if let Some(found) = series.find(key, now, || labels.values(record), || labels.other()) {
                    found.add_entry(place, added, bucket.sum.is_some(), edges, *scale);
                }
            }
            (Table::Counter(series), amount) => {
                let added = growth(&mut last[0], amount.integer(record));
                // A counter exists even if it has not counted anything.
                if let Some(total) = series.find(key, now, || labels.values(record), || labels.other()) {
                    *total = total.wrapping_add(added);
                }
            }
            (Table::Histogram(series, edges), Amount::Slots { slots, sum }) => {
                if let Some(found) = series.find(key, now, || labels.values(record), || labels.other()) {
                    found.add_slots(slots, sum.as_ref(), record, last, edges);
                }
            }
            _ => {}
        }
    }

    /// A gauge begins at 0 with each reading of its map.
    pub fn begin_reading(&mut self) {
        if let Table::Gauge(series) = &mut self.table {
            series.begin();
        }
    }

    /// The whole map was read.
    pub fn end_reading(&mut self) {
        if let Table::Gauge(series) = &mut self.table {
            series.end(|| self.labels.other());
        }
    }

    /// Sets a gauge that has no labels from fields.
    pub fn set(&mut self, value: f64) {
        self.begin_reading();
        if let Table::Gauge(series) = &mut self.table
            && let Some(values) = self.labels.values(&[])
        {
            series.add(values, value);
        }
        self.end_reading();
    }

    /// Whether it can continue the series of the same metric of an earlier version.
    pub fn continues(&self, before: &Metric) -> bool {
        let is_same = self.name == before.name
            && self.kind == before.kind
            && self.labels.names == before.labels.names
            && self.scale.to_bits() == before.scale.to_bits()
            && self.width() == before.width();
        match (&self.table, &before.table) {
            (Table::Histogram(_, edges), Table::Histogram(_, known)) => is_same && edges == known,
            (Table::Info(_), _) => false,
            _ => is_same,
        }
    }

    /// Continues the series of a metric that it [`continues`](Metric::continues).
    pub fn inherit(&mut self, before: Metric) {
        match (&mut self.table, before.table) {
            (Table::Counter(series), Table::Counter(old)) => series.inherit(old),
            (Table::Histogram(series, _), Table::Histogram(old, _)) => series.inherit(old),
            (Table::Gauge(series), Table::Gauge(old)) => series.inherit(&old),
            _ => {}
        }
    }

    /// Records that it was scraped.
    pub fn note_scrape(&mut self, now: u32) {
        match &mut self.table {
            Table::Counter(series) => series.note_scrape(now),
            Table::Histogram(series, _) => series.note_scrape(now),
            Table::Gauge(_) | Table::Info(_) => {}
        }
    }

    /// The number of its series, and how many values were counted in `other`.
    pub fn usage(&self) -> (usize, u64) {
        match &self.table {
            Table::Counter(series) => (series.len(), series.folded()),
            Table::Gauge(series) => series.usage(),
            Table::Histogram(series, _) => (series.len(), series.folded()),
            Table::Info(_) => (1, 0),
        }
    }
}

/// By how much a count has grown since it was read before. A count that is smaller than before has restarted at 0.
pub fn growth(last: &mut u64, value: u64) -> u64 {
    let before = std::mem::replace(last, value);
    if value >= before { value - before } else { value }
}

impl Amount {
    fn new(
        kind: Kind,
        wanted: &config::Metric,
        record: &Arc<Type>,
        is_entry: bool,
    ) -> Result<Amount, String> {
        let name = match (kind, is_entry) {
            (Kind::Counter, false) => wanted.add.as_deref(),
            (Kind::Histogram, false) => wanted.observe.as_deref(),
            (Kind::Histogram, true) => return Amount::of_entry(wanted, record),
            (_, true) => Some(wanted.value.as_deref().unwrap_or("value")),
            _ => None,
        };
        let Some(name) = name else { return Ok(Amount::One) };
        let field = labels::find(record, name, is_entry)?;
        match field.ty.kind {
            _ if labels::is_integer(&field.ty) => Ok(Amount::Integer(field)),
            TypeKind::Float if kind != Kind::Counter => Ok(Amount::Float(field)),
            TypeKind::Struct | TypeKind::Union => {
                let inner = field::names(&field.ty).join(", ");
                Err(format!("{name:?} is a struct; choose one of its fields as value: {inner}"))
            }
            _ => Err(format!("{name:?} is {}, not a number", field.ty.name)),
        }
    }

    /// What an entry of a map adds to a histogram.
    fn of_entry(wanted: &config::Metric, record: &Arc<Type>) -> Result<Amount, String> {
        let Some(bucket) = &wanted.bucket else { return Amount::slots(wanted, record) };
        let integer = |key: &str, name: &str| {
            let field = labels::find(record, name, true).map_err(|why| format!("{key}: {why}"))?;
            match labels::is_integer(&field.ty) {
                true => Ok(field),
                false => Err(format!("{key}: {} is not an integer", field.ty.name)),
            }
        };
        Ok(Amount::Entry {
            number: integer("bucket", &bucket.from)?,
            count: integer("value", wanted.value.as_deref().unwrap_or("value"))?,
            bucket: bucket.clone(),
        })
    }

    fn slots(wanted: &config::Metric, record: &Arc<Type>) -> Result<Amount, String> {
        let slots = labels::find(record, wanted.slots.as_deref().unwrap_or("value.slots"), true)?;
        let is_array = slots.ty.elem.as_ref().is_some_and(|elem| labels::is_integer(elem) && elem.size <= 8);
        if !is_array || !(1..=config::MAX_BUCKETS).contains(&(slots.ty.count as usize)) {
            let text =
                format!("slots: {} is not an array of 1 to {} integers", slots.ty.name, config::MAX_BUCKETS);
            return Err(text);
        }
        let sum = wanted.sum.as_deref().map(|name| labels::find(record, name, true)).transpose()?;
        match sum.as_ref().filter(|sum| !labels::is_integer(&sum.ty)) {
            Some(sum) => Err(format!("sum: {} is not an integer", sum.ty.name)),
            None => Ok(Amount::Slots { slots, sum }),
        }
    }

    /// The number that is added to a counter: 0 instead of a negative one.
    fn integer(&self, record: &[u8]) -> u64 {
        match self {
            Amount::Integer(field) => positive(field, record),
            _ => 1,
        }
    }

    fn number(&self, record: &[u8]) -> f64 {
        match self {
            Amount::Integer(field) => field::integer(field, record) as f64,
            Amount::Float(field) => field::float(field, record),
            _ => 1.0,
        }
    }
}

/// The integer in a field; 0 instead of a negative one.
fn positive(field: &Field, record: &[u8]) -> u64 {
    u64::try_from(field::integer(field, record)).unwrap_or(0)
}

/// The edges of a histogram.
fn edges(wanted: &config::Metric, amount: &Amount) -> Result<Edges, String> {
    let slots = match amount {
        Amount::Slots { slots, .. } => Some(slots.ty.count as usize),
        _ => None,
    };
    match (wanted.buckets.as_ref().unwrap_or(&Buckets::Log2(None)), slots) {
        (Buckets::Log2(None), slots) => Ok(Edges::log2(slots)),
        (Buckets::Log2(Some(count)), Some(slots)) if *count + 1 != slots => Err(mismatch(*count, slots)),
        (Buckets::Log2(Some(count)), _) => Ok(Edges::log2(Some(count + 1))),
        (Buckets::Linear { count, .. }, Some(slots)) if *count + 1 != slots => Err(mismatch(*count, slots)),
        (Buckets::Linear { width, count }, _) => Ok(Edges::linear(*width, *count)),
        (Buckets::Native { schema }, _) => Ok(Edges::native(*schema)),
        (Buckets::Explicit(edges), _) => Ok(Edges::explicit(edges.clone())),
    }
}

fn mismatch(count: usize, slots: usize) -> String {
    format!(
        "buckets: {count} buckets and one without an upper edge need {} slots, and the array has {slots}",
        count + 1
    )
}

/// The description in one line, or the name if there is no description: Prometheus requires one.
fn one_line(text: &str, name: &str) -> String {
    let words: Vec<&str> = text
        .split(|letter: char| letter.is_control() || letter == ' ')
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() { name.replace('_', " ") } else { words.join(" ") }
}

/// The position of a metric, for messages.
pub fn position(entry: &Spanned<config::Metric>) -> Location {
    entry.referenced
}

/// The labels of an info: constants, and values of variables.
pub fn info(
    labels: &Labels,
    variables: &[String],
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let constants: Values = labels.values(&[]).unwrap_or_default();
    let mut all: Vec<(String, String)> =
        labels.names.iter().cloned().zip(constants.iter().map(|value| value.to_string())).collect();
    for name in variables {
        let json = read(name)?;
        let text = serde_json::from_str::<String>(&json).unwrap_or(json);
        all.push((name.clone(), text));
    }
    Ok(all)
}
