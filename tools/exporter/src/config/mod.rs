//! The configuration: what to run and what to count, as the user has written it.
//!
//! It is YAML, or JSON, which is YAML too. Every value that an error can be about keeps its position in the file. Whether names of
//! fields and maps exist is checked later, against the types of the package.

mod check;
mod label;
mod logs;
mod metric;
mod otlp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eunomia_agent::loader::protocol::{Caller, Origin};
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

pub use label::Label;
pub use logs::Logs;
pub use metric::{Bucket, Buckets, Kind, MAX_BUCKETS, Metric};
pub use otlp::{Compression, Otlp, Temporality};

use crate::source::{self, Found};

/// Maximum size of a file, in bytes.
pub const MAX_FILE: u64 = 10 << 20;
/// Maximum number of programs, and of metrics of a program.
const MAX_PROGRAMS: usize = 64;
const MAX_METRICS: usize = 256;

/// A configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The programs.
    pub programs: Vec<Spanned<Program>>,
    /// Where metrics are pushed to.
    #[serde(default)]
    pub otlp: Option<Spanned<Otlp>>,
}

/// A program and its metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its metrics.
    pub metrics: Metrics,
    /// The package, written into the configuration.
    #[serde(default)]
    pub ebpf_data: String,
    /// The file with the package, relative to the directory of the configuration.
    #[serde(default)]
    pub compiled_ebpf_filename: String,
    /// The package, as for `ecli run`: a file, a URL or an image.
    #[serde(default)]
    pub package: Option<Spanned<String>>,
    /// The SHA-256 digest of the package.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Whether a trusted key must have signed the package.
    #[serde(default)]
    pub require_signed: bool,
    /// The directory of trusted keys.
    #[serde(default)]
    pub trust: Option<String>,
    /// The signature of a package that is written into the configuration.
    #[serde(default)]
    pub signature: Option<String>,
    /// Functions and variables of the kernel. The global variable `kaddr_NAME` is set to the address of NAME.
    #[serde(default)]
    pub kaddrs: Vec<String>,
    /// The package, once it was found.
    #[serde(skip)]
    pub found: Option<Found>,
    /// Arguments of the program.
    #[serde(default)]
    pub args: Vec<String>,
    /// Values of its global variables.
    #[serde(default)]
    pub variables: BTreeMap<String, serde_json::Value>,
    /// Limits of each metric.
    #[serde(default)]
    pub limits: Limits,
    /// `quotes`: label values that are strings are written with quotes, as eunomia-exporter of eunomia-bpf does.
    #[serde(default)]
    pub compat: Option<String>,
    /// The events that are pushed as logs to the receiver of metrics.
    #[serde(default)]
    pub logs: Option<Spanned<Logs>>,
}

/// The metrics of a program, by their kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Values that only grow.
    pub counters: Vec<Spanned<Metric>>,
    /// Values that are read when they are scraped.
    pub gauges: Vec<Spanned<Metric>>,
    /// Distributions.
    pub histograms: Vec<Spanned<Metric>>,
    /// Constants, as labels.
    pub infos: Vec<Spanned<Metric>>,
}

/// Limits of each metric.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The maximum number of series.
    pub series: usize,
    /// The time after which a series without events makes space for another one, in seconds or as `10m`.
    pub idle: Idle,
}

/// A time in seconds, or with a unit: `30s`, `10m`, `2h`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Idle(pub u32);

impl Default for Limits {
    fn default() -> Limits {
        Limits { series: 2000, idle: Idle(600) }
    }
}

impl TryFrom<String> for Idle {
    type Error = String;

    fn try_from(text: String) -> Result<Idle, String> {
        let (digits, factor) = match text.as_bytes().last() {
            Some(b's') => (&text[..text.len() - 1], 1),
            Some(b'm') => (&text[..text.len() - 1], 60),
            Some(b'h') => (&text[..text.len() - 1], 3600),
            _ => (&*text, 1),
        };
        let seconds = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
        seconds.map(Idle).ok_or_else(|| format!("expected a time such as 30s, 10m or 2h, found {text:?}"))
    }
}

/// A mistake in a configuration, with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1 on, or 0 if it is unknown.
    pub line: u64,
    /// The column, from 1 on.
    pub column: u64,
    /// The program, metric and label that it is about, and the reason.
    pub text: String,
}

impl Problem {
    /// A problem at a position.
    pub fn at(position: Location, text: impl std::fmt::Display) -> Problem {
        Problem { line: position.line(), column: position.column(), text: text.to_string() }
    }
}

/// Puts a name before the reason.
pub trait About<T> {
    /// Adds the position, and what it is about.
    fn about(self, position: Location, what: impl std::fmt::Display) -> Result<T, Problem>;
}

impl<T, E: std::fmt::Display> About<T> for Result<T, E> {
    fn about(self, position: Location, what: impl std::fmt::Display) -> Result<T, Problem> {
        self.map_err(|why| Problem::at(position, format_args!("{what}: {why}")))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.text),
            line => write!(f, "line {line}, column {}: {}", self.column, self.text),
        }
    }
}

impl File {
    /// Reads a file. Paths in it are relative to its directory. The error is one line.
    pub fn read(path: &Path) -> Result<File, String> {
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let text = read_text(path).map_err(|why| failed(&why))?;
        let mut file = File::parse(&text).map_err(|problem| failed(&problem))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for program in &mut file.programs {
            program.value.resolve(folder);
        }
        Ok(file)
    }

    /// Parses and checks a configuration.
    pub fn parse(text: &str) -> Result<File, Problem> {
        let file: File = parse(text)?;
        check::file(&file)?;
        file.otlp.as_ref().map_or(Ok(()), otlp::check)?;
        let logs = file.programs.iter().find_map(|program| program.value.logs.as_ref());
        if let (Some(logs), None) = (logs, &file.otlp) {
            return Err(Problem::at(
                logs.referenced,
                "logs: there is no receiver; add otlp with its endpoint",
            ));
        }
        Ok(file)
    }

    /// Parses and checks a configuration that a request contains.
    pub fn parse_request(text: &str) -> Result<File, Problem> {
        let file = File::parse(text)?;
        file.programs.iter().try_for_each(check::is_local)?;
        Ok(file)
    }

    /// Finds the packages of all programs, downloads them if need be, and checks their digests and signatures.
    pub fn find_packages(&mut self) -> Result<(), Problem> {
        self.programs.iter_mut().try_for_each(source::find)
    }
}

impl Program {
    /// Parses and checks one program that a request contains: an element of `programs`.
    pub fn parse(text: &str) -> Result<Spanned<Program>, Problem> {
        let program: Spanned<Program> = parse(text)?;
        check::program(&program)?;
        check::is_local(&program)?;
        Ok(program)
    }

    /// Makes paths relative to the directory of the configuration.
    fn resolve(&mut self, folder: &Path) {
        let inside = |path: &str| {
            let path = std::path::absolute(folder.join(path)).unwrap_or_else(|_| path.into());
            path.to_string_lossy().into_owned()
        };
        if !self.compiled_ebpf_filename.is_empty() {
            self.compiled_ebpf_filename = inside(&self.compiled_ebpf_filename);
        }
        if let Some(package) = self.package.as_mut().filter(|package| source::is_file(&package.value)) {
            package.value = inside(&package.value);
        }
        if let Some(trust) = &mut self.trust {
            *trust = inside(trust);
        }
    }

    /// The file of its package, if it is one on this machine.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.package {
            Some(package) => Some(&package.value).filter(|text| source::is_file(text)).map(PathBuf::from),
            None => Some(&self.compiled_ebpf_filename).filter(|path| !path.is_empty()).map(PathBuf::from),
        }
    }

    /// The hexadecimal digits of the SHA-256 digest that its package must have.
    pub fn digest(&self) -> Option<&str> {
        self.sha256.as_deref().map(|text| text.strip_prefix("sha256:").unwrap_or(text))
    }

    /// Its package, after [`File::find_packages`].
    pub fn package(&self) -> Result<Arc<[u8]>, String> {
        self.found.as_ref().map(|found| Arc::clone(&found.package)).ok_or_else(|| "has no package".into())
    }

    /// Its variables, as the loader expects them.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
    }

    /// The origin of the package, for the policy of the loader: root, who has written the configuration.
    pub fn origin(&self) -> Origin {
        let who = format!("eunomia-exporter: {}", self.name);
        let signature = self.found.as_ref().and_then(|found| found.signature.clone());
        Origin { caller: Caller::Root, who, signature }
    }

    /// All metrics, with their kinds.
    pub fn metrics(&self) -> impl Iterator<Item = (Kind, &Spanned<Metric>)> {
        let Metrics { counters, gauges, histograms, infos } = &self.metrics;
        let lists = [
            (Kind::Counter, counters),
            (Kind::Gauge, gauges),
            (Kind::Histogram, histograms),
            (Kind::Info, infos),
        ];
        lists.into_iter().flat_map(|(kind, list)| list.iter().map(move |metric| (kind, metric)))
    }
}

/// Parses YAML, with limits on its size and its aliases.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let position = error.location();
        let (line, column) = position.map_or((0, 0), |position| (position.line(), position.column()));
        let text = error.to_string();
        // The position follows in the message of the parser too.
        let text = text.split(" at line ").next().unwrap_or_default().lines().next().unwrap_or_default();
        Problem { line, column, text: text.to_owned() }
    })
}

/// Reads a file of bounded size. The error is one line without its name.
pub fn read_text(path: &Path) -> Result<String, String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if about.len() > MAX_FILE {
        return Err(format!("has {} bytes; the maximum is {MAX_FILE}", about.len()));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
