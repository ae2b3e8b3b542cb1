//! The arguments of the program: errors that name its options, and its help.

use clap::CommandFactory;
use eunomia::package::args::{self, ArgSpec};
use eunomia::package::{Meta, Package};
use eunomia::{Subject, Vm};

use crate::error::{Code, Failure, Result};
use crate::options::CommandLine;

/// Sets the arguments of a package, including `argv[0]`. Returns the help or version that they request, if any.
pub fn set(vm: &Vm, package: &[u8], argv: &[&str]) -> Result<Option<String>> {
    // An object without a package has only the built-in options.
    let meta = Package::parse(package).map(|package| package.meta).unwrap_or_default();
    let specs = args::specs(&meta);
    match vm.args_set(argv) {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(help(vm, &meta, &specs, argv)?)),
        Err(error) => Err(explain(error, &specs, argv)),
    }
}

/// The help or the version.
fn help(vm: &Vm, meta: &Meta, specs: &[ArgSpec], argv: &[&str]) -> Result<String> {
    let is_version = argv.iter().any(|arg| matches!(*arg, "-V" | "--version"));
    if is_version || meta.obj_name.is_empty() {
        return Ok(vm.args_help()?);
    }
    Ok(args::help(meta, specs, &format!("ecli run {}", argv[0])))
}

/// Names the option instead of its variable.
fn explain(error: eunomia::Error, specs: &[ArgSpec], argv: &[&str]) -> Failure {
    let option = match &error.subject() {
        Some(Subject::Variable(name)) => specs.iter().find(|spec| spec.name == *name),
        _ => None,
    };
    let failure = match option {
        Some(spec) => Failure::new(Code::Usage, format_args!("--{}: {}", spec.long, error.reason())),
        None => Failure::from(error).with_code(Code::Usage),
    };
    failure.at(argv[0]).at_end(misplaced(specs, argv).unwrap_or_default())
}

/// The hint for an option of ecli that was written after the program, if there is one.
pub fn misplaced(specs: &[ArgSpec], argv: &[&str]) -> Option<String> {
    let (prog, args) = argv.split_first()?;
    let option = args.iter().find_map(|arg| ecli_option(arg, specs))?;
    Some(format!("; {option} is an option of ecli and goes before the program: ecli run {option} ... {prog}"))
}

/// The option of `ecli run` in an argument, unless the program has an option of that name.
fn ecli_option(arg: &str, specs: &[ArgSpec]) -> Option<String> {
    let long = arg.strip_prefix("--").map(|name| name.split('=').next().unwrap_or(name));
    let short = arg.strip_prefix('-').filter(|name| name.len() == 1).and_then(|name| name.chars().next());
    let is_the_programs =
        |spec: &ArgSpec| Some(&*spec.long) == long || spec.short.is_some_and(|c| Some(c) == short);
    if specs.iter().any(is_the_programs) {
        return None;
    }
    let command = CommandLine::command();
    let run = command.find_subcommand("run")?;
    let is_own = |of: &clap::Arg| {
        (long.is_some() && of.get_long() == long) || (short.is_some() && of.get_short() == short)
    };
    run.get_arguments().any(is_own).then(|| arg.split('=').next().unwrap_or(arg).to_owned())
}
