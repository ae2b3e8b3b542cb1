//! The example hosts in C, C++ and Rust, with the release build of the library: `first` and the same six in each
//! language print what they should. Python's and Go's are tested with their bindings.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::binding::{REPLACED, example_package, folder, next_version};
use support::{example, host, root};

/// The hosts of a language, with the expected output.
fn print_their_events(program: impl Fn(&str) -> PathBuf, events_end: bool) {
    let (bootstrap, opensnoop) = (example_package("bootstrap"), example_package("opensnoop"));
    let command = |name: &str| Command::new(program(name));
    example::prints(command("first").arg(&bootstrap), &["\"exit_event\":true"]);
    example::prints_until_interrupted(command("events").arg(&bootstrap), &["\"exit_event\":true"]);
    if events_end {
        example::prints(command("events").args([&bootstrap, "--help"]), &["--min_duration_ns"]);
    }
    example::prints_until_interrupted(command("raw").arg(&bootstrap), &["exit 0", "/true"]);
    let variables = ["targ_failed false", "\"ret\":-2", "/nothing/here", "map started", "opens under way: "];
    example::prints(command("variables").arg(&opensnoop), &variables);
    example::prints_until_interrupted(command("loop").arg(&bootstrap), &["tick", "\"comm\":\"true\""]);
    let several = ["bootstrap/package.json {", "opensnoop/package.json {"];
    example::prints_until_interrupted(command("several").args([&bootstrap, &opensnoop]), &several);
}

/// The host that replaces its package.
fn print_both_versions(program: PathBuf, language: &str) {
    let bootstrap = example_package("bootstrap");
    let next = next_version(&bootstrap, &folder("hosts", language));
    example::prints(Command::new(program).args([&bootstrap, &next]), &REPLACED);
}

/// Compiles an example into a directory of that name.
fn compiled(name: &str, compiler: &str, flags: &[&str], source: &str) -> PathBuf {
    let folder = folder("hosts", name);
    let source = root().join("examples").join(source);
    let program = folder.join(source.file_stem().expect("a name"));
    host::link(compiler, flags, &[source], &program);
    program
}

#[test]
fn in_c() {
    needs_root!();
    let program = |name: &str| compiled("c", "cc", &["-std=gnu99"], &format!("c/{name}.c"));
    print_their_events(program, false);
    print_both_versions(program("replace"), "c");
}

/// Hosts that are compiled with the header of the last release run with the current library. For an example that now
/// uses newer functions, the old version is used.
#[test]
fn in_c_with_the_header_of_before() {
    needs_root!();
    let previous = root().join("tests/data/abi/previous");
    let header = format!("-I{}", previous.display());
    let source = |name: &str| match format!("{name}.c") {
        file if previous.join(&file).exists() => format!("../tests/data/abi/previous/{file}"),
        file => format!("c/{file}"),
    };
    print_their_events(|name| compiled("c-before", "cc", &["-std=gnu99", &header], &source(name)), false);
}

#[test]
fn in_cpp() {
    needs_root!();
    let program = |name: &str| compiled("cpp", "c++", &["-std=c++17"], &format!("cpp/{name}.cpp"));
    print_their_events(program, true);
    print_both_versions(program("replace"), "cpp");
}

/// `cargo test` builds the examples before the tests, but not with `--test NAME`.
#[test]
fn in_rust() {
    needs_root!();
    let exe = std::env::current_exe().expect("a test knows where it is");
    let examples = exe.ancestors().nth(2).expect("tests are in target/PROFILE/deps").join("examples");
    let built = |name: &str| -> PathBuf {
        let program = examples.join(name);
        assert!(program.exists(), "{} is missing: run `cargo build --examples`", program.display());
        program
    };
    print_their_events(built, true);
    print_both_versions(built("replace"), "rust");
    let mut host = Command::new(built("async"));
    let words = ["tick", "\"comm\":\"true\""];
    example::prints_until_interrupted(host.arg(example_package("bootstrap")), &words);
}
