//! The command line that a package describes: one option for each of its global variables, and for the size of each map
//! that asks for one.
//!
//! Beside those, every program has `-h/--help`, `-V/--version` and `--verbose`. A boolean understands
//! `--NAME`, `--enable-NAME` and its short letter for true, `--disable-NAME` for false, so that the command
//! lines of all eras of eunomia-bpf work; the help shows the one that changes something.
//!
//! Names are given out in the order of the variables and never twice. A variable whose `long` is taken goes
//! by its own name, and if that is taken too by `var-NAME`; a short letter that is taken is dropped.
//!
//! Must not convert values: only the variable's BTF type can tell what fits.

use std::ffi::OsString;
use std::fmt::Write;

use lexopt::Arg;
use serde_json::Value;

use super::meta::{DUMMY_PREFIX, Meta, VarMeta};
use super::node::{Places, compact};
use crate::error::{Error, Result, Status};

const BUILT_IN: [(&str, Option<char>, &str); 3] = [
    ("verbose", None, "Show libbpf's debug messages"),
    ("help", Some('h'), "Print this help"),
    ("version", Some('V'), "Print the version"),
];

/// One option.
#[derive(Clone, Debug, PartialEq)]
pub struct ArgSpec {
    /// The variable it sets, or the map whose size it sets.
    pub name: String,
    /// The option's name without dashes; a boolean adds its `enable-` and `disable-` forms.
    pub long: String,
    /// Its short form.
    pub short: Option<char>,
    /// What it is for.
    pub help: String,
    /// What it takes.
    pub kind: ArgKind,
    /// What is set when the option is not given.
    pub default: Option<Value>,
}

/// What an option takes.
#[derive(Clone, Debug, PartialEq)]
pub enum ArgKind {
    /// A boolean without a default: `--NAME`.
    Switch,
    /// A boolean that is false by default: `--enable-NAME`.
    Enable,
    /// A boolean that is true by default: `--disable-NAME`.
    Disable,
    /// A value.
    Value {
        /// The variable's type in C.
        type_text: String,
        /// What the help shows as the default.
        default: Option<Value>,
    },
}

/// What a variable is to be set to; its type is not known here.
#[derive(Clone, Debug, PartialEq)]
pub enum ArgText {
    /// A boolean option was given.
    Bool(bool),
    /// A value was given.
    Text(String),
    /// Nothing was given, and the package has a default.
    Json(Value),
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// To run.
    Run {
        /// Variables, and sizes of maps, and what to set them to.
        set: Vec<(String, ArgText)>,
        /// Whether libbpf's debug messages are wanted.
        verbose: bool,
    },
    /// To print the help.
    Help,
    /// To print the version.
    Version,
}

/// The options of a package.
pub fn specs(meta: &Meta) -> Vec<ArgSpec> {
    let mut taken = Places::default();
    for (long, short, _) in BUILT_IN {
        taken.insert(long, 0);
        short.map(|short| taken.insert(&letter(short), 0));
    }
    let declared = meta.vars.iter().filter(|var| !var.type_text.is_empty());
    let offered = declared.filter(|var| !var.name.starts_with(DUMMY_PREFIX));
    offered.map(|var| spec(var, &mut taken)).collect()
}

/// A short option among the names: its dash keeps it apart from a long one of a single letter.
fn letter(short: char) -> String {
    format!("-{short}")
}

fn spec(var: &VarMeta, taken: &mut Places) -> ArgSpec {
    let arg = var.cmdarg.clone().unwrap_or_default();
    let kind = kind(var, arg.default.as_ref().or(var.value.as_ref()));
    let wanted = arg.long.into_iter().chain([var.name.clone(), format!("var-{}", var.name)]);
    let numbered = (2..).map(|number| format!("var-{}-{number}", var.name));
    let is_free = |long: &String| forms(long, &kind).iter().all(|form| taken.get(form).is_none());
    let long = wanted.chain(numbered).find(is_free).unwrap_or_default();
    for form in forms(&long, &kind) {
        taken.insert(&form, 0);
    }
    ArgSpec {
        name: var.name.clone(),
        short: arg.short.filter(|short| taken.insert(&letter(*short), 0).is_none()),
        help: arg
            .help
            .or_else(|| var.description.clone())
            .unwrap_or_else(|| format!("Set value of `{}` variable {}", var.type_text, var.name)),
        long,
        kind,
        default: arg.default,
    }
}

fn kind(var: &VarMeta, default: Option<&Value>) -> ArgKind {
    match (var.type_text.as_str(), default) {
        ("bool" | "_Bool", None) => ArgKind::Switch,
        ("bool" | "_Bool", Some(Value::Bool(false))) => ArgKind::Enable,
        ("bool" | "_Bool", Some(Value::Bool(true))) => ArgKind::Disable,
        (type_text, default) => ArgKind::Value { type_text: type_text.to_owned(), default: default.cloned() },
    }
}

/// All names an option goes by.
fn forms(long: &str, kind: &ArgKind) -> Vec<String> {
    match kind {
        ArgKind::Value { .. } => vec![long.to_owned()],
        _ => vec![long.to_owned(), format!("enable-{long}"), format!("disable-{long}")],
    }
}

/// Reads a command line, the program's name in front included. Options not given set their default if the
/// package has one; else the variable keeps what the program was compiled with.
pub fn parse(specs: &[ArgSpec], argv: &[String]) -> Result<Parsed> {
    let longs = by_form(specs);
    let mut given: Vec<Option<ArgText>> = specs.iter().map(|_| None).collect();
    let mut verbose = false;
    let mut parser = lexopt::Parser::from_args(argv.iter().skip(1).map(OsString::from));
    while let Some(arg) = parser.next().map_err(stray)? {
        let (index, flag) = match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Parsed::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Parsed::Version),
            Arg::Long("verbose") => {
                verbose = true;
                continue;
            }
            Arg::Long(form) => {
                let index = longs.get(form).ok_or_else(|| unknown(specs, &format!("--{form}")))?;
                (index, form == specs[index].long || form.starts_with("enable-"))
            }
            Arg::Short(letter) => match specs.iter().position(|spec| spec.short == Some(letter)) {
                Some(index) => (index, true),
                // The version letter of eunomia-bpf 0.3, where no variable has it.
                None if letter == 'v' => return Ok(Parsed::Version),
                None => return Err(unknown(specs, &format!("-{letter}"))),
            },
            Arg::Value(value) => {
                return Err(inval(format_args!("unexpected argument {:?}", value.to_string_lossy())));
            }
        };
        given[index] = Some(match specs[index].kind {
            ArgKind::Value { .. } => ArgText::Text(parser.value().map_err(stray)?.to_string_lossy().into()),
            _ => ArgText::Bool(flag),
        });
    }
    Ok(Parsed::Run { set: with_defaults(specs, given), verbose })
}

/// The place of the option that each name stands for.
fn by_form(specs: &[ArgSpec]) -> Places {
    let mut longs = Places::default();
    for (index, spec) in specs.iter().enumerate() {
        for form in forms(&spec.long, &spec.kind) {
            longs.insert(&form, index);
        }
    }
    longs
}

fn with_defaults(specs: &[ArgSpec], given: Vec<Option<ArgText>>) -> Vec<(String, ArgText)> {
    let choose = |(spec, given): (&ArgSpec, Option<ArgText>)| {
        let text = given.or_else(|| spec.default.clone().map(ArgText::Json));
        Some((spec.name.clone(), text?))
    };
    specs.iter().zip(given).filter_map(choose).collect()
}

fn inval(message: impl std::fmt::Display) -> Error {
    Error::new(Status::Inval, message)
}

fn stray(error: lexopt::Error) -> Error {
    match error {
        lexopt::Error::MissingValue { option } => {
            inval(format_args!("option {:?} needs a value", option.unwrap_or_default()))
        }
        lexopt::Error::UnexpectedValue { option, .. } => {
            inval(format_args!("option {option:?} takes no value"))
        }
        // The parser has no other: texts are kept as they are. Their words would take 1 kB.
        _ => inval("malformed option"),
    }
}

fn unknown(specs: &[ArgSpec], option: &str) -> Error {
    let built_in = BUILT_IN.iter().map(|(long, ..)| long.to_string());
    let known = specs.iter().map(main_form).chain(built_in).map(|long| format!("--{long}"));
    inval(format_args!("unknown option {option:?}; there are {}", known.collect::<Vec<_>>().join(", ")))
}

/// The form that changes something.
fn main_form(spec: &ArgSpec) -> String {
    match spec.kind {
        ArgKind::Enable => format!("enable-{}", spec.long),
        ArgKind::Disable => format!("disable-{}", spec.long),
        _ => spec.long.clone(),
    }
}

/// The text for `--help`.
pub fn help(meta: &Meta, specs: &[ArgSpec], argv0: &str) -> String {
    let doc = &meta.doc;
    let about = doc.brief.as_deref().or(doc.description.as_deref()).unwrap_or("A simple eBPF program");
    let name = if argv0.is_empty() { &meta.obj_name } else { argv0 };
    let lines: Vec<(String, String)> = specs
        .iter()
        .map(help_line)
        .chain(BUILT_IN.map(|(long, short, help)| (option_text(short, long), help.to_owned())))
        .collect();
    let width = lines.iter().map(|(option, _)| option.chars().count()).filter(|width| *width <= 48).max();
    let width = width.unwrap_or(0);
    let mut text = format!("{about}\n\nUsage: {name} [OPTIONS]\n\nOptions:\n");
    for (option, help) in lines {
        let _ = writeln!(text, "  {option:width$}  {help}");
    }
    if let Some(details) = &doc.details {
        let _ = writeln!(text, "\n{details}");
    }
    text
}

fn help_line(spec: &ArgSpec) -> (String, String) {
    // The letter means true, which is what a variable to disable is anyway.
    let short = spec.short.filter(|_| spec.kind != ArgKind::Disable);
    let option = option_text(short, &main_form(spec));
    match &spec.kind {
        ArgKind::Value { type_text, default: None } => (format!("{option} <{type_text}>"), spec.help.clone()),
        ArgKind::Value { type_text, default: Some(default) } => {
            let default = default.as_str().map_or_else(|| compact(default), str::to_owned);
            (format!("{option} <{type_text}>"), format!("{} [default: {default}]", spec.help))
        }
        _ => (option, spec.help.clone()),
    }
}

fn option_text(short: Option<char>, long: &str) -> String {
    match short {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("    --{long}"),
    }
}

/// The text for `--version`.
pub fn version(meta: &Meta) -> String {
    format!("{} {}", meta.obj_name, meta.doc.version.as_deref().unwrap_or("0.1.0"))
}
