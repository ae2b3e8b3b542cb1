//! The C++ interface: eunomia.hpp compiles without warnings in every standard from C++17 on, the program of tests/data/cpp
//! runs natively and with sanitizers, and eunomia.hpp wraps every function of the C header.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{host, root, sanitizer};

/// A directory for the output of a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cpp").join(name);
    std::fs::create_dir_all(&folder).expect("the directory can be created");
    folder
}

/// Compiles tests/data/cpp/vm.cpp and runs it. Each variant has its own directory, since they run in parallel.
fn run(way: &str, flags: &[&str], repeats: &str, under: &[&str]) {
    needs_root!();
    let folder = folder(way);
    support::package_file("tests/conformance/bpf/calls.bpf.c", &folder.join("calls.json"));
    support::package_file("tests/data/bpf/rejected.bpf.c", &folder.join("rejected.json"));
    let program = folder.join("vm");
    let flags = [&["-std=c++17", "-Wshadow"], flags].concat();
    host::link("c++", &flags, &[root().join("tests/data/cpp/vm.cpp")], &program);
    let words = [under, &[program.to_str().expect("the path is UTF-8")]].concat();
    let mut command = Command::new(words[0]);
    let output = command.args(&words[1..]).arg(&folder).arg(repeats).output().expect("the program starts");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn exceptions_and_lifetimes_hold() {
    run("native", &[], "50", &[]);
}

#[test]
fn exceptions_and_lifetimes_hold_with_sanitizers() {
    run("sanitizer", &sanitizer::MEMORY, "30", &[]);
}

#[test]
fn the_thread_sanitizer_reports_nothing() {
    sanitizer::finds_errors(&sanitizer::THREADS, &folder("threads"));
    run("threads", &sanitizer::THREADS, "20", &["setarch", "--addr-no-randomize"]);
}

#[test]
fn the_header_is_valid_in_every_cpp_from_17_on() {
    let source = folder("header").join("header.cpp");
    std::fs::write(&source, "#include <eunomia.hpp>\n").expect("the source can be written");
    for compiler in ["g++", "clang++"] {
        for standard in ["-std=c++17", "-std=c++20", "-std=c++2b"] {
            host::check(compiler, &[standard, "-Wshadow", "-Wconversion"], &source);
        }
    }
}

/// The meaning of `true` from a callback is ambiguous; the bytes of a pointer or a string_view are not those of the value.
#[test]
fn ambiguous_calls_do_not_compile() {
    let source = folder("refused").join("refused.cpp");
    for (statement, said) in [
        ("vm.run(format::json, [](const event &) { return true; });", "nothing or an eunomia::flow"),
        ("vm.var_set(\"text\", std::string_view(\"a\"));", "not plain bytes"),
        ("vm.var_set(\"text\", std::string(\"a\"));", "not plain bytes"),
        ("int key = 1; vm.map_get<int>(\"counts\", &key);", "not plain bytes"),
        ("vm.map_set(\"counts\", 1, std::string_view(\"a\"));", "not plain bytes"),
        ("int key = 1; vm.map_del(\"counts\", &key);", "not plain bytes"),
    ] {
        let text = format!(
            "#include <eunomia.hpp>\nusing namespace eunomia;\nvoid f(eunomia::vm &vm) {{ {statement} }}\n"
        );
        std::fs::write(&source, text).expect("the source can be written");
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-fsyntax-only", "-I"]).arg(root().join("include")).arg(&source);
        let output = compiler.output().expect("the compiler runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(said), "{statement}: {errors}");
    }
}

/// A library of another minor version is refused; the message names both versions.
#[test]
fn a_library_of_another_version_is_refused() {
    let folder = folder("version");
    let header = std::fs::read_to_string(root().join("include/eunomia.h")).expect("the header can be read");
    let define = |name: &str, value: u32| format!("#define EUNOMIA_VERSION_{name} {value}\n");
    let number = |text: &str| text.parse::<u32>().expect("a part of the version is a number");
    let (major, minor) = (number(env!("CARGO_PKG_VERSION_MAJOR")), number(env!("CARGO_PKG_VERSION_MINOR")));
    let num = major * 10000 + minor * 100 + number(env!("CARGO_PKG_VERSION_PATCH"));
    let other = header
        .replace(&define("MINOR", minor), &define("MINOR", minor + 7))
        .replace(&format!("_NUM {num} "), &format!("_NUM {} ", num + 700));
    assert!(header != other, "the header has no version to replace");
    std::fs::write(folder.join("eunomia.h"), other).expect("the header can be written");
    let text = "#include <eunomia.hpp>\n#include <cstdio>\nint main() { try { eunomia::vm vm; } \
                catch (const eunomia::error &e) { std::printf(\"%d %s\", e.status(), e.what()); } }\n";
    let (source, program) = (folder.join("main.cpp"), folder.join("main"));
    std::fs::write(&source, text).expect("the source can be written");
    let include = format!("-I{}", folder.display());
    host::link("c++", &["-std=c++17", &include], &[source], &program);
    let output = Command::new(program).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
    let asked = format!("version {major}.{}", minor + 7);
    assert!(said.starts_with("-10 ") && said.contains(ours) && said.contains(&asked), "{said}");
}

#[test]
fn every_c_function_is_wrapped() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("the file can be read");
    let header = read("include/eunomia.hpp");
    let names = read("tests/data/abi/symbols.txt");
    let is_used = |name: &&str| header.contains(&format!("{name}(")) || header.contains(&format!("({name})"));
    let missing: Vec<&str> = names.lines().filter(|name| !is_used(name)).collect();
    assert!(missing.is_empty(), "eunomia.hpp does not use {missing:?}");
}
