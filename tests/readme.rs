//! Tests of the hosts in the README: the one in C compiles without warnings as C and as C++ and has at most 28 lines; the one
//! in C++ compiles with eunomia.hpp.

use std::path::Path;
use std::process::Command;

/// Maximum number of lines of the host; the README promises that a host is small.
const MAX_LINES: usize = 28;

fn host() -> String {
    block("c")
}

/// The first block of code in a language.
fn block(language: &str) -> String {
    let readme = include_str!("../README.md");
    let (_, block) = readme.split_once(&format!("```{language}\n")).expect("the README has such a block");
    block.split_once("```").expect("the block ends").0.to_string()
}

/// Compiles as C, then as C++.
fn compile(source: &str) -> bool {
    compiles(source, &["-std=c99"]) && compiles(source, &["-x", "c++", "-std=c++11"])
}

fn compiles(source: &str, language: &[&str]) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Tests run in parallel.
    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{:?}.c", std::thread::current().id()));
    std::fs::write(&file, source).expect("the directory for temporary files is writable");
    let flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"];
    let compiler =
        Command::new("cc").args(language).args(flags).arg("-I").arg(root.join("include")).arg(file).status();
    compiler.expect("cc runs").success()
}

#[test]
fn the_host_of_the_readme_compiles() {
    assert!(compile(&host()));
    assert!(host().contains("eunomia_stop"), "without eunomia_stop a signal would leave tc filters attached");
    assert!(host().contains("SIG_IGN"), "without SIG_IGN a late signal would stop a vm that was destroyed");
    assert!(
        !compile(&host().replace("eunomia_run", "eunomia_walk")),
        "a function that is not in the header compiled"
    );
}

#[test]
fn the_cpp_host_of_the_readme_compiles() {
    assert!(compiles(&block("cpp"), &["-x", "c++", "-std=c++17"]));
    assert!(!compiles(&block("cpp").replace("vm.run", "vm.walk"), &["-x", "c++", "-std=c++17"]));
}

#[test]
fn the_host_of_the_readme_is_small() {
    assert!(host().lines().count() <= MAX_LINES, "{} lines", host().lines().count());
}
