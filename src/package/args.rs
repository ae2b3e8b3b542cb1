//! The command line of a package: an option for each global variable, and for the size of each map with `cmdarg`.
//!
//! Every program also has `-h/--help`, `-V/--version` and `--verbose`. A boolean accepts `--NAME`, `--enable-NAME` and its
//! short name for true, and `--disable-NAME` for false, so that command lines of all versions of eunomia-bpf work. The
//! help shows the form that changes the default.
//!
//! Names are assigned in the order of the variables, and are unique. If `long` is already used, the option gets the name of
//! the variable, or `var-NAME` if that is used too. A short name that is already used is dropped.
//!
//! Values are not converted here, because that needs the BTF type of the variable.

use std::ffi::OsString;
use std::fmt::Write;

use lexopt::Arg;
use serde_json::Value;

use super::json_value::{NameIndex, compact};
use super::meta::{DUMMY_PREFIX, Meta, VarMeta};
use crate::error::{Error, Result, Status};

const BUILT_IN: [(&str, Option<char>, &str); 3] = [
    ("verbose", None, "Show libbpf's debug messages"),
    ("help", Some('h'), "Print this help"),
    ("version", Some('V'), "Print the version"),
];

/// One option.
#[derive(Clone, Debug, PartialEq)]
pub struct ArgSpec {
    /// The variable that it sets, or the map whose size it sets.
    pub name: String,
    /// The long name without dashes. A boolean also has the forms `enable-` and `disable-`.
    pub long: String,
    /// The short name.
    pub short: Option<char>,
    /// The help text.
    pub help: String,
    /// The kind of its value.
    pub kind: ArgKind,
    /// The value if the option is not given.
    pub default: Option<Value>,
}

/// The kind of the value of an option.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ArgKind {
    /// A boolean without a default: `--NAME`.
    Switch,
    /// A boolean that is false by default: `--enable-NAME`.
    Enable,
    /// A boolean that is true by default: `--disable-NAME`.
    Disable,
    /// A value.
    Value {
        /// The C type of the variable.
        type_text: String,
        /// The default value in the help.
        default: Option<Value>,
    },
}

/// A value for a variable, not converted to its type yet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ArgText {
    /// A boolean option was given.
    Bool(bool),
    /// A value was given.
    Text(String),
    /// No option was given; this is the default of the package.
    Json(Value),
}

/// The result of parsing a command line.
#[derive(Clone, Debug, PartialEq)]
pub enum ParsedArgs {
    /// Run the program.
    Run {
        /// The values of variables and the sizes of maps, by name.
        set: Vec<(String, ArgText)>,
        /// Whether to log the debug messages of libbpf.
        verbose: bool,
    },
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Returns the options of a package.
pub fn specs(meta: &Meta) -> Vec<ArgSpec> {
    let mut used = NameIndex::default();
    for (long, short, _) in BUILT_IN {
        used.insert(long, 0);
        short.map(|short| used.insert(&short_name(short), 0));
    }
    let declared = meta.vars.iter().filter(|var| !var.type_text.is_empty());
    let options = declared.filter(|var| !var.name.starts_with(DUMMY_PREFIX));
    options.map(|var| spec(var, &mut used)).collect()
}

/// Returns a short name with its dash, which distinguishes it from a long name of one letter.
fn short_name(short: char) -> String {
    format!("-{short}")
}

fn spec(var: &VarMeta, used: &mut NameIndex) -> ArgSpec {
    let arg = var.cmdarg.clone().unwrap_or_default();
    let kind = kind(var, arg.default.as_ref().or(var.value.as_ref()));
    let preferred = arg.long.into_iter().chain([var.name.clone(), format!("var-{}", var.name)]);
    let numbered = (2..).map(|number| format!("var-{}-{number}", var.name));
    let is_free = |long: &String| forms(long, &kind).iter().all(|form| used.get(form).is_none());
    let long = preferred.chain(numbered).find(is_free).unwrap_or_default();
    for form in forms(&long, &kind) {
        used.insert(&form, 0);
    }
    ArgSpec {
        name: var.name.clone(),
        short: arg.short.filter(|short| used.insert(&short_name(*short), 0).is_none()),
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

/// Returns all long names of an option.
fn forms(long: &str, kind: &ArgKind) -> Vec<String> {
    match kind {
        ArgKind::Value { .. } => vec![long.to_owned()],
        _ => vec![long.to_owned(), format!("enable-{long}"), format!("disable-{long}")],
    }
}

/// Parses a command line; `argv[0]` is the name of the program. An option that is not given sets its default, if the
/// package has one; otherwise the variable keeps the value in the object.
pub fn parse(specs: &[ArgSpec], argv: &[String]) -> Result<ParsedArgs> {
    let longs = long_names(specs);
    let mut given: Vec<Option<ArgText>> = specs.iter().map(|_| None).collect();
    let mut verbose = false;
    let mut parser = lexopt::Parser::from_args(argv.iter().skip(1).map(OsString::from));
    while let Some(arg) = parser.next().map_err(syntax_error)? {
        let (index, flag) = match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(ParsedArgs::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(ParsedArgs::Version),
            Arg::Long("verbose") => {
                verbose = true;
                continue;
            }
            Arg::Long(form) => {
                let index = longs.get(form).ok_or_else(|| unknown_option(specs, &format!("--{form}")))?;
                (index, form == specs[index].long || form.starts_with("enable-"))
            }
            Arg::Short(letter) => match specs.iter().position(|spec| spec.short == Some(letter)) {
                Some(index) => (index, true),
                // The short name of --version in eunomia-bpf 0.3, unless a variable has it.
                None if letter == 'v' => return Ok(ParsedArgs::Version),
                None => return Err(unknown_option(specs, &format!("-{letter}"))),
            },
            Arg::Value(value) => {
                return Err(inval(format_args!("unexpected argument {:?}", value.to_string_lossy())));
            }
        };
        given[index] = Some(match specs[index].kind {
            ArgKind::Value { .. } => {
                ArgText::Text(parser.value().map_err(syntax_error)?.to_string_lossy().into())
            }
            _ => ArgText::Bool(flag),
        });
    }
    Ok(ParsedArgs::Run { set: with_defaults(specs, given), verbose })
}

/// Returns the index of the option for each long name.
fn long_names(specs: &[ArgSpec]) -> NameIndex {
    let mut longs = NameIndex::default();
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

fn syntax_error(error: lexopt::Error) -> Error {
    match error {
        lexopt::Error::MissingValue { option } => {
            inval(format_args!("option {:?} needs a value", option.unwrap_or_default()))
        }
        lexopt::Error::UnexpectedValue { option, .. } => {
            inval(format_args!("option {option:?} does not take a value"))
        }
        // The parser reports nothing else, because values are not converted. Its own messages would take 1 kB.
        _ => inval("malformed option"),
    }
}

fn unknown_option(specs: &[ArgSpec], option: &str) -> Error {
    let built_in = BUILT_IN.iter().map(|(long, ..)| long.to_string());
    let known = specs.iter().map(main_form).chain(built_in).map(|long| format!("--{long}"));
    inval(format_args!("unknown option {option:?}; the options are {}", known.collect::<Vec<_>>().join(", ")))
}

/// Returns the option that changes the default, such as `disable-NAME` for a variable that is true.
fn main_form(spec: &ArgSpec) -> String {
    match spec.kind {
        ArgKind::Enable => format!("enable-{}", spec.long),
        ArgKind::Disable => format!("disable-{}", spec.long),
        _ => spec.long.clone(),
    }
}

/// Returns the text of `--help`.
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
    // The short name means true, which is already the default of such a variable.
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

/// Returns the text of `--version`.
pub fn version(meta: &Meta) -> String {
    format!("{} {}", meta.obj_name, meta.doc.version.as_deref().unwrap_or("0.1.0"))
}
