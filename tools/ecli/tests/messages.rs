//! Error messages: one line, in one style, with a hint.
#![allow(missing_docs)]

mod support;

use support::{module, package, run};

/// The only line of a run that ends with this code.
#[track_caller]
fn line(args: &[&str], code: i32) -> String {
    let ran = run(args);
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{}", ran.err);
    let line = ran.err.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{line}");
    line.strip_prefix("ecli: ").expect("all messages begin alike").to_owned()
}

#[test]
fn every_usage_error_is_one_line_in_one_style() {
    let opensnoop = package("opensnoop");
    let cases: [(&[&str], &str); 9] = [
        (
            &["run", "--format", "xml", "x"],
            "invalid value 'xml' for '--format <FORMAT>' [possible values: text, json, csv, raw]",
        ),
        (&["push"], "the following required arguments were not provided: <IMAGE>"),
        (&["check", "--jsn", "x"], "unexpected argument '--jsn' found; a similar argument exists: '--json'"),
        (
            &["run", "--count", "-3", "x"],
            "invalid value '-3' for '--count <N>': expected a whole number of at least 1",
        ),
        (
            &["run", "--count", "0", "x"],
            "invalid value '0' for '--count <N>': expected a whole number of at least 1",
        ),
        (
            &["run", "--btf", "/nope", "x"],
            "invalid value '/nope' for '--btf <PATH>': No such file or directory",
        ),
        (
            &["check", "--btf", "/nope", "x"],
            "invalid value '/nope' for '--btf <PATH>': No such file or directory",
        ),
        (
            &["run", "-j", "--format", "json", "x"],
            "the argument '--json' cannot be used with '--format <FORMAT>'",
        ),
        (
            &["run", "--foo", "x"],
            "unknown option --foo; to pass it to the program, write it after PROG: ecli run PROG --foo",
        ),
    ];
    for (args, expected) in cases {
        assert_eq!(line(args, 2), expected);
    }
    // A request for help or the version is not a mistake.
    assert_eq!(run(&["run", "--help"]).code, Some(0));
    assert!(run(&["--version"]).out.starts_with("ecli "));
    assert_eq!(
        line(&["run", &opensnoop, "--pid", "abc"], 2),
        format!("{opensnoop}: --pid: \"abc\" is not a value of pid_t")
    );
}

#[test]
fn an_option_of_ecli_after_the_program_gets_a_hint() {
    let (opensnoop, sigsnoop) = (package("opensnoop"), module("sigsnoop"));
    for (args, option) in
        [(&["--duration", "5"][..], "--duration"), (&["-p", "1", "-j"], "-j"), (&["--count=3"], "--count")]
    {
        let said = line(&[&["run", opensnoop.as_str()], args].concat(), 2);
        let advice = format!(
            "; {option} is an option of ecli and goes before the program: ecli run {option} ... {opensnoop}"
        );
        assert!(
            said.starts_with(&format!("{opensnoop}: unknown option ")) && said.ends_with(&advice),
            "{said}"
        );
    }
    // The module has printed the rest itself, and ends like a package.
    let ran = run(&["run", &sigsnoop, "--duration", "5"]);
    assert_eq!(ran.code, Some(2));
    let advice = format!(
        "ecli: --duration is an option of ecli and goes before the program: ecli run --duration ... {sigsnoop}"
    );
    assert_eq!(ran.err.lines().last(), Some(advice.as_str()));
    // An option that the program has is the program's. An option that neither has is unknown.
    let said = line(&["run", &opensnoop, "-p", "x"], 2);
    assert!(!said.contains("ecli run"), "{said}");
    let said = line(&["run", &opensnoop, "--nobodys"], 2);
    assert!(said.contains("the options are --pid, ") && !said.contains("ecli run"), "{said}");
}

#[test]
fn help_names_the_command_that_was_typed() {
    let opensnoop = package("opensnoop");
    let help = run(&["run", &opensnoop, "-h"]);
    assert_eq!(help.code, Some(0));
    assert!(help.out.contains(&format!("\nUsage: ecli run {opensnoop} [OPTIONS]\n")), "{}", help.out);
    assert_eq!(run(&["run", &opensnoop, "--version"]).out, "opensnoop_bpf 0.1.0\n");
}

#[test]
fn the_default_program_is_named_as_such() {
    let line = line(&["run", "-j"], 3);
    assert_eq!(line, "package.json: No such file or directory; no program given, so this is the default");
}

#[test]
fn errors_have_hints() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("hello.bpf.c"), "// A comment\n#include <linux/bpf.h>\n").unwrap();
    let source = path("hello.bpf.c");
    let said = line(&["run", &source], 3);
    assert_eq!(said, format!("{source}: C source; compile it to a package with ecc"));
    std::fs::write(path("meta.json"), "{\"bpf_skel\":{\"obj_name\":\"x\"}}").unwrap();
    let said = line(&["run", &path("meta.json")], 3);
    assert!(
        said.ends_with(
            ": this is metadata without its object; run the package.json that ecc writes, which contains both"
        ),
        "{said}"
    );
    let key = path("none.key");
    assert_eq!(
        line(&["sign", &source, "-s", &key], 3),
        format!("{key}: No such file or directory; create a key pair with `ecli keygen`")
    );
    std::fs::create_dir(path("trusted")).unwrap();
    let said = line(&["verify", &source, "--trust", &path("trusted")], 3);
    assert!(said.ends_with("no .minisig file found; the author can create one with `ecli sign`"), "{said}");
    // A port that nothing listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = line(&["pull", &format!("localhost:{port}/tool:1")], 3);
    assert!(said.ends_with(": Connection refused; no server listens on this port"), "{said}");
}
