//! Units of values in the kernel, and the base units of Prometheus.

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The unit of the metric.
    pub base: &'static str,
    /// The number of units of the metric in one of this unit.
    pub factor: f64,
}

const fn unit(name: &'static str, base: &'static str, factor: f64) -> Unit {
    Unit { name, base, factor }
}

const UNITS: [Unit; 10] = [
    unit("ns", "seconds", 1e-9),
    unit("us", "seconds", 1e-6),
    unit("ms", "seconds", 1e-3),
    unit("s", "seconds", 1.0),
    unit("bytes", "bytes", 1.0),
    unit("kib", "bytes", 1024.0),
    unit("mib", "bytes", 1_048_576.0),
    unit("sectors", "bytes", 512.0),
    unit("pages", "bytes", 4096.0),
    unit("percent", "ratio", 0.01),
];

/// Finds a unit. A page is that of this machine.
pub fn find(name: &str) -> Option<Unit> {
    let found = UNITS.into_iter().find(|unit| unit.name == name)?;
    Some(match name {
        "pages" => Unit { factor: rustix::param::page_size() as f64, ..found },
        _ => found,
    })
}

/// All units, for messages.
pub fn words() -> String {
    UNITS.map(|unit| unit.name).join(", ")
}
