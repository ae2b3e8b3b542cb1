//! The command-line options of a package.

use eunomia::error::Status;
use eunomia::package::Meta;
use eunomia::package::args::{
    ArgKind, ArgSpec, ArgText, ParsedArgs, help, parse as parse_args, specs, version,
};
use serde_json::{Value, json};

use crate::fixture::{f2_skel, parse};

fn meta(variables: Value) -> Meta {
    parse(&f2_skel(json!({"obj_name":"tool_bpf","data_sections":[{"name":".rodata","variables":variables}]})))
        .meta
}

fn opensnoop() -> Meta {
    meta(json!([
        {"name":"targ_pid","type":"pid_t","description":"Process to trace","cmdarg":{"long":"pid","short":"p"}},
        {"name":"targ_failed","type":"bool","cmdarg":{"default":false,"long":"failed","short":"f"}},
        {"name":"targ_name","type":"char[16]","cmdarg":{"default":"cat","help":"Command to trace"}},
        {"name":"quiet","type":"bool"},
        {"name":"merge","type":"bool","value":true,"cmdarg":{"short":"m"}},
        {"name":"__eunomia_dummy_event_ptr","type":"struct event *"}]))
}

fn run(meta: &Meta, argv: &[&str]) -> Vec<(String, ArgText)> {
    match command(meta, argv) {
        Ok(ParsedArgs::Run { set, .. }) => set,
        other => panic!("{other:?}"),
    }
}

fn command(meta: &Meta, argv: &[&str]) -> eunomia::error::Result<ParsedArgs> {
    let argv: Vec<String> = ["tool"].iter().chain(argv).map(|arg| arg.to_string()).collect();
    parse_args(&specs(meta), &argv)
}

fn refusal(meta: &Meta, argv: &[&str]) -> String {
    let error = command(meta, argv).expect_err("this should be refused");
    assert_eq!(error.status(), Status::Inval);
    error.message().to_owned()
}

fn text(value: &str) -> ArgText {
    ArgText::Text(value.into())
}

/// Returns what is set in addition to the defaults of `opensnoop`.
fn given(meta: &Meta, argv: &[&str]) -> Vec<(String, ArgText)> {
    let usual = [("targ_failed", ArgText::Json(json!(false))), ("targ_name", ArgText::Json(json!("cat")))];
    let is_usual = |(name, value): &(String, ArgText)| usual.contains(&(name.as_str(), value.clone()));
    run(meta, argv).into_iter().filter(|entry| !is_usual(entry)).collect()
}

#[test]
fn each_variable_is_an_option_except_dummies_of_the_compiler() {
    let kinds: Vec<_> = specs(&opensnoop())
        .into_iter()
        .map(|ArgSpec { long, short, kind, .. }| (long, short, kind))
        .collect();
    let value = |type_text: &str, default| ArgKind::Value { type_text: type_text.into(), default };
    let expected = [
        ("pid".to_owned(), Some('p'), value("pid_t", None)),
        ("failed".to_owned(), Some('f'), ArgKind::Enable),
        ("targ_name".to_owned(), None, value("char[16]", Some(json!("cat")))),
        ("quiet".to_owned(), None, ArgKind::Switch),
        ("merge".to_owned(), Some('m'), ArgKind::Disable),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn without_options_only_declared_defaults_are_set() {
    let expected = [
        ("targ_failed".to_owned(), ArgText::Json(json!(false))),
        ("targ_name".to_owned(), ArgText::Json(json!("cat"))),
    ];
    assert_eq!(run(&opensnoop(), &[]), expected);
    assert_eq!(
        parse_args(&specs(&Meta::default()), &[]).unwrap(),
        ParsedArgs::Run { set: vec![], verbose: false }
    );
}

#[test]
fn values_are_accepted_in_every_spelling_and_the_last_one_counts() {
    let pid = |value| vec![("targ_pid".to_owned(), text(value))];
    for argv in
        [&["--pid", "7"][..], &["--pid=7"], &["-p7"], &["-p", "7"], &["-p=7"], &["-p", "1", "--pid", "7"]]
    {
        assert_eq!(given(&opensnoop(), argv), pid("7"), "{argv:?}");
    }
    assert_eq!(given(&opensnoop(), &["--pid", "-1"]), pid("-1"));
    assert_eq!(given(&opensnoop(), &["--targ_name", ""]), [("targ_name".to_owned(), text(""))]);
}

#[test]
fn booleans_are_accepted_in_the_spellings_of_all_versions() {
    let set = |name: &str, value| vec![(name.to_owned(), ArgText::Bool(value))];
    for (option, name, value) in [
        ("--enable-failed", "targ_failed", true),
        ("--failed", "targ_failed", true),
        ("-f", "targ_failed", true),
        ("--disable-failed", "targ_failed", false),
        ("--quiet", "quiet", true),
        ("--disable-quiet", "quiet", false),
        ("--disable-merge", "merge", false),
        ("--merge", "merge", true),
        ("-m", "merge", true),
    ] {
        assert_eq!(given(&opensnoop(), &[option]), set(name, value), "{option}");
    }
    assert_eq!(given(&opensnoop(), &["-fm"]).len(), 2);
}

#[test]
fn a_declared_default_of_a_boolean_is_set() {
    let meta = meta(json!([{"name":"on","type":"bool","cmdarg":{"default":true}}]));
    assert_eq!(run(&meta, &[]), [("on".to_owned(), ArgText::Json(json!(true)))]);
    assert_eq!(run(&meta, &["--disable-on"]), [("on".to_owned(), ArgText::Bool(false))]);
}

#[test]
fn every_program_has_the_built_in_options() {
    let meta = opensnoop();
    for (argv, expected) in [
        (&["-h"][..], ParsedArgs::Help),
        (&["--help"], ParsedArgs::Help),
        (&["--pid", "1", "--help"], ParsedArgs::Help),
        (&["-V"], ParsedArgs::Version),
        (&["--version"], ParsedArgs::Version),
        (&["-v"], ParsedArgs::Version),
    ] {
        assert_eq!(command(&meta, argv).unwrap(), expected, "{argv:?}");
    }
    assert!(matches!(command(&meta, &["--verbose"]), Ok(ParsedArgs::Run { verbose: true, .. })));
    assert!(matches!(command(&meta, &[]), Ok(ParsedArgs::Run { verbose: false, .. })));
}

#[test]
fn a_variable_can_use_the_short_name_v() {
    let meta = meta(json!([{"name":"verb","type":"int","cmdarg":{"short":"v"}}]));
    assert_eq!(run(&meta, &["-v", "3"]), [("verb".to_owned(), text("3"))]);
}

#[test]
fn invalid_command_lines_name_the_option() {
    let meta = opensnoop();
    let there = "--pid, --enable-failed, --targ_name, --quiet, --disable-merge, --verbose, --help, --version";
    assert_eq!(refusal(&meta, &["--x"]), format!("unknown option \"--x\"; the options are {there}"));
    assert_eq!(refusal(&meta, &["-x"]), format!("unknown option \"-x\"; the options are {there}"));
    assert_eq!(refusal(&meta, &["--pid"]), "option \"--pid\" needs a value");
    assert_eq!(refusal(&meta, &["--quiet=yes"]), "option \"--quiet\" does not take a value");
    assert_eq!(refusal(&meta, &["seven"]), "unexpected argument \"seven\"");
    assert_eq!(refusal(&meta, &["--", "--pid"]), "unexpected argument \"--pid\"");
}

#[test]
fn option_names_are_unique() {
    let long = |variables| -> Vec<(String, Option<char>)> {
        specs(&meta(variables)).into_iter().map(|spec| (spec.long, spec.short)).collect()
    };
    let own = |name: &str| (name.to_owned(), None);
    assert_eq!(
        long(json!([{"name":"verbose","type":"bool"},{"name":"help","type":"int"}])),
        [own("var-verbose"), own("var-help")]
    );
    assert_eq!(
        long(json!([{"name":"a","type":"int","cmdarg":{"long":"b","short":"x"}},
            {"name":"b","type":"int","cmdarg":{"short":"x"}},
            {"name":"c","type":"int","cmdarg":{"long":"b","short":"h"}}])),
        [("b".to_owned(), Some('x')), own("var-b"), own("c")]
    );
    assert_eq!(
        long(json!([{"name":"a","type":"bool"},{"name":"b","type":"int","cmdarg":{"long":"enable-a"}}])),
        [own("a"), own("b")]
    );
    assert_eq!(
        long(
            json!([{"name":"a","type":"int","cmdarg":{"long":"b"}},{"name":"c","type":"int","cmdarg":{"long":"var-b"}},
            {"name":"b","type":"int"}])
        ),
        [own("b"), own("var-b"), own("var-b-2")]
    );
}

#[test]
fn help_shows_the_forms_that_change_the_default() {
    let mut meta = opensnoop();
    meta.doc.brief = Some("Trace opens".into());
    meta.doc.details = Some("Prints one line per call.".into());
    let expected = "\
Trace opens

Usage: opensnoop [OPTIONS]

Options:
  -p, --pid <pid_t>           Process to trace
  -f, --enable-failed         Set value of `bool` variable targ_failed
      --targ_name <char[16]>  Command to trace [default: cat]
      --quiet                 Set value of `bool` variable quiet
      --disable-merge         Set value of `bool` variable merge
      --verbose               Show libbpf's debug messages
  -h, --help                  Print this help
  -V, --version               Print the version

Prints one line per call.
";
    assert_eq!(help(&meta, &specs(&meta), "opensnoop"), expected);
}

#[test]
fn help_and_version_have_defaults() {
    let meta = meta(json!([]));
    let help = help(&meta, &specs(&meta), "");
    assert!(help.starts_with("A simple eBPF program\n\nUsage: tool_bpf [OPTIONS]\n"), "{help}");
    assert_eq!(version(&meta), "tool_bpf 0.1.0");
}

#[test]
fn a_map_with_cmdarg_has_an_option_for_its_size() {
    let meta = parse(&f2_skel(json!({"data_sections": [{"name": ".bss", "variables": [{"name": "events", "type": "int"}]}],
        "maps": [
            {"name": "events", "ident": "events", "cmdarg": {"short": "b", "default": 4096}},
            {"name": "counts", "ident": "counts", "description": "Keys to remember", "cmdarg": {"long": "keys"}},
            {"name": "plain", "ident": "plain", "description": "no option"}]})))
    .meta;
    let sizes = |argv: &[&str]| run(&meta, argv);
    let entry = |name: &str, text: ArgText| (name.to_owned(), text);
    // A variable already has the name `events`.
    assert_eq!(sizes(&["--var-events=8192"]), [entry("events", text("8192"))]);
    assert_eq!(sizes(&["-b", "1"]), [entry("events", text("1"))]);
    assert_eq!(
        sizes(&["--keys", "100"]),
        [entry("events", ArgText::Json(json!(4096))), entry("counts", text("100"))]
    );
    let help = help(&meta, &specs(&meta), "tool");
    assert!(help.contains("--keys <max_entries>"), "{help}");
    assert!(help.contains("Keys to remember"), "{help}");
    assert!(help.contains("Entries of the map, or bytes of a ring buffer [default: 4096]"), "{help}");
    assert!(!help.contains("plain"), "{help}");
}
