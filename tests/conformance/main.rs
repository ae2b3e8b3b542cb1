//! Executes one table of scenarios in every language that the library has an interface for. README.md in this directory
//! describes the table. This driver builds the packages and the runners, runs them and prints a table of languages and
//! scenarios. The runners use the library as it ships.

#[path = "../support/mod.rs"]
mod support;

mod compare;
mod lines;
mod packages;
mod runners;
mod rust;
mod wrong;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The table.
const SCENARIOS: &str = include_str!("scenarios.json");

/// The result of a runner for each scenario: "ok" or the difference.
type Results = BTreeMap<String, String>;

#[test]
fn every_language_does_what_the_table_says() {
    needs_root!();
    let table: Value = serde_json::from_str(SCENARIOS).expect("the table is JSON");
    let results = run("scenarios", &table);
    let unlike = print(&names(&table), &results);
    assert!(unlike.is_empty(), "{}", unlike.join("\n"));
}

#[test]
#[ignore = "for make vm, which runs it before it boots"]
fn pack_the_runner_in_c() {
    let table: Value = serde_json::from_str(SCENARIOS).expect("the table is JSON");
    let folder = folder("vm");
    packages::make(&folder);
    std::fs::write(folder.join("scenarios.txt"), lines::of(&table))
        .expect("the table can be written as lines");
    runners::c(&folder);
    for entry in std::fs::read_dir(folder).expect("the folder was just made") {
        println!("pack {}", entry.expect("it can be read").path().display());
    }
}

/// On the kernels of virtual machines, C and Rust run; the other languages are bindings to the same calls.
#[test]
#[ignore = "needs what was packed: run by make vm"]
fn vm_c_and_rust_do_what_the_table_says() {
    needs_root!();
    let table: Value = serde_json::from_str(SCENARIOS).expect("the table is JSON");
    let folder = folder("vm");
    let mut runner = Command::new(folder.join("runner-c"));
    runner.arg(folder.join("scenarios.txt")).arg(&folder);
    let results = [("C", results_of(runner)), ("Rust", rust::run(&table, &folder))];
    let unlike = print(&names(&table), &results);
    assert!(unlike.is_empty(), "{}", unlike.join("\n"));
    for (language, found) in results {
        println!("matrix conformance suite in {language}, {} scenarios: works", found.len());
    }
}

/// Each scenario of this table has one wrong expectation, so a runner that reports ok does not check it.
#[test]
fn no_language_overlooks_what_differs() {
    needs_root!();
    let table = wrong::table(&serde_json::from_str(SCENARIOS).expect("the table is JSON"));
    let overlooked: Vec<String> = run("wrong", &table)
        .iter()
        .flat_map(|(language, found)| {
            let looked = |name: &&str| found.get(*name).is_some_and(|result| result.starts_with("step "));
            let names = names(&table).into_iter().filter(move |name| !looked(name));
            names.map(move |name| format!("{language}: {name}: {:?}", found.get(name)))
        })
        .collect();
    assert!(overlooked.is_empty(), "{}", overlooked.join("\n"));
}

/// Returns the results of each language for a table, in a directory of its own.
fn run(name: &str, table: &Value) -> Vec<(&'static str, Results)> {
    let folder = folder(name);
    packages::make(&folder);
    let (json, lines) = (folder.join("scenarios.json"), folder.join("scenarios.txt"));
    std::fs::write(&json, table.to_string()).expect("the table can be written");
    std::fs::write(&lines, lines::of(table)).expect("the table can be written as lines");
    let runners = runners::all(&folder, &json, &lines).into_iter();
    let mut results: Vec<_> = runners.map(|(language, runner)| (language, results_of(runner))).collect();
    results.push(("Rust", rust::run(table, &folder)));
    results
}

/// The directory for the packages and runners of all languages.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance").join(name);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

fn names(table: &Value) -> Vec<&str> {
    let scenarios = table["scenarios"].as_array().expect("scenarios are a list");
    scenarios.iter().map(|scenario| scenario["name"].as_str().expect("a scenario has a name")).collect()
}

/// Runs a runner and kills it if it hangs.
fn results_of(runner: Command) -> Results {
    let mut command = Command::new("timeout");
    command.arg("300").arg(runner.get_program()).args(runner.get_args());
    command.envs(runner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = runner.get_current_dir() {
        command.current_dir(folder);
    }
    let output = command.output().expect("timeout runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{runner:?}: {}\n{text}{errors}", output.status);
    text.lines().filter_map(|line| line.split_once('\t')).map(|(a, b)| (a.into(), b.into())).collect()
}

/// Prints the table, bypassing the test harness's capture, and returns the differences.
fn print(names: &[&str], results: &[(&str, Results)]) -> Vec<String> {
    let mut text = format!("\n{:<72}", "");
    results.iter().for_each(|(language, _)| text += &format!("{language:<8}"));
    let mut unlike = Vec::new();
    for name in names {
        text += &format!("\n{name:<72}");
        for (language, found) in results {
            let result = found.get(*name).map_or("it did not get there", String::as_str);
            text += if result == "ok" { "ok      " } else { "differs " };
            if result != "ok" {
                unlike.push(format!("{language}, {name}: {result}"));
            }
        }
    }
    writeln!(std::io::stdout(), "{text}").expect("standard output takes the table");
    unlike
}
