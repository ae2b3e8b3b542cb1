//! The guest headers, compiled for this machine under the sanitizers of gcc.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::Project;

const FLAGS: [&str; 9] = [
    "-std=gnu99",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-I",
    "eunomia-include",
];

/// Compiles `tests/sdk/NAME.c` to a program in the project.
fn compile(project: &Project, name: &str) -> PathBuf {
    let program = project.path(name);
    let mut command = Command::new("cc");
    command.args(FLAGS).arg(format!("tests/sdk/{name}.c")).arg("-o").arg(&program).arg("-lm");
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(status.expect("cc runs").success(), "{name}.c does not compile");
    program
}

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn check(name: &str) {
    let project = Project::new(name);
    let output = run(&compile(&project, name), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn cjson_reads_prints_and_survives_everything() {
    check("cjson");
}

#[test]
fn helpers_start_programs_set_variables_and_enter_main() {
    check("helpers");
}

#[test]
fn argparse_reads_command_lines() {
    let project = Project::new("argparse");
    let program = compile(&project, "argparse");
    let usual =
        [("failed", "0"), ("pid", "0"), ("bits", "0"), ("called", "0"), ("ratio", "0"), ("name", "none")];
    /// Arguments; the values that they change; what remains.
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);
    let cases: [Case; 20] = [
        (&[], &[], ""),
        (&["-x"], &[("failed", "1")], ""),
        (&["-xx", "--failed"], &[("failed", "3")], ""),
        (&["-x", "--no-failed"], &[], ""),
        (&["-p5"], &[("pid", "5")], ""),
        (&["-p", "-5"], &[("pid", "-5")], ""),
        (&["--pid=0x10"], &[("pid", "16")], ""),
        (&["--pi", "2147483647"], &[("pid", "2147483647")], ""),
        (&["-xkp7"], &[("failed", "1"), ("called", "7"), ("pid", "7")], ""),
        (&["-b"], &[("bits", "4")], ""),
        (&["-b", "--no-bit"], &[], ""),
        (&["-r", "2.5"], &[("ratio", "2.5")], ""),
        (&["--ratio=1e2"], &[("ratio", "100")], ""),
        (&["-n", "a b"], &[("name", "a b")], ""),
        (&["--name="], &[("name", "")], ""),
        (&["a", "-x", "b"], &[("failed", "1")], " [a] [b]"),
        (&["-", "--", "-x", "--"], &[], " [-] [-x] [--]"),
        (&["stop", "-x", "a", "-x"], &[("failed", "1")], " [a] [-x]"),
        (&["--pages", "3"], &[], ""),
        (&["--failed-too"], &[], ""),
    ];
    for (arguments, changed, rest) in cases {
        let value = |name| changed.iter().chain(&usual).find(|(other, _)| *other == name).unwrap().1;
        let fields: Vec<_> = usual.iter().map(|(name, _)| format!("{name}={}", value(*name))).collect();
        let output = run(&program, arguments);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        let expected = format!("{}{rest}\n", fields.join(" "));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{arguments:?}");
    }
}

#[test]
fn argparse_names_mistakes() {
    let project = Project::new("mistakes");
    let program = compile(&project, "argparse");
    let cases: [(&[&str], &str); 14] = [
        (&["-z"], "unknown option `-z`"),
        (&["-xz"], "unknown option `-z`"),
        (&["--zoo=1"], "unknown option `--zoo`"),
        (&["--=1"], "unknown option `--`"),
        (&["--no-zoo"], "unknown option `--no-zoo`"),
        (&["--no-pid"], "unknown option `--no-pid`"),
        (&["--no-failed-too"], "unknown option `--no-failed-too`"),
        (&["--p", "1"], "several options begin with `--p`"),
        (&["--failed=1"], "option `--failed` takes no value"),
        (&["-p"], "option `--pid` requires a value"),
        (&["-p", "x"], "option `--pid` expects an integer"),
        (&["-p5x"], "option `--pid` expects an integer"),
        (&["--pid", "2147483648"], "option `--pid` expects a number that fits an int"),
        (&["-r", ""], "option `--ratio` expects a number"),
    ];
    for (arguments, line) in cases {
        let output = run(&program, arguments);
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("error: {line}\n"), "{arguments:?}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
    }
}

#[test]
fn argparse_prints_the_help() {
    let project = Project::new("help");
    let output = run(&compile(&project, "argparse"), &["-p", "1", "--help", "-z"]);
    let help = "\
Usage: tool [-h] [-x] FILE...
   or: tool --version
Does things.

    -h, --help              show this help message and exit

Filters
    -x, --failed            failed only
    -k                      calls
    -b, --bit               a bit
    -p, --pid=<int>         target pid

Others
    -r, --ratio=<flt>       a ratio
    -n, --name=<str>        a name
    --failed-too            long only
    --pages=<int>           a number that nobody wants
That is all.
";
    assert_eq!(String::from_utf8_lossy(&output.stdout), help);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
