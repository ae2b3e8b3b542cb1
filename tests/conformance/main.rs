//! One table of scenarios, carried out in every language the library has an interface for; README.md beside this file
//! says what the table means. This driver makes the packages, builds and starts the runners, and prints what each
//! found, language by scenario. What runs is the library as it ships.

#[path = "../support/mod.rs"]
mod support;

mod compare;
mod lines;
mod packages;
mod runners;
mod rust;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The table.
const SCENARIOS: &str = include_str!("scenarios.json");

/// What a runner said of each scenario: "ok", or what differed.
type Results = BTreeMap<String, String>;

#[test]
fn every_language_does_what_the_table_says() {
    needs_root!();
    let table: Value = serde_json::from_str(SCENARIOS).expect("the table is JSON");
    let folder = folder();
    packages::make(&folder);
    let lines = folder.join("scenarios.txt");
    std::fs::write(&lines, lines::of(&table)).expect("the table can be written as lines");

    let names = names(&table);
    let mut results: Vec<(&str, Results)> =
        runners::all(&folder, &lines).into_iter().map(|(name, runner)| (name, results_of(runner))).collect();
    results.push(("Rust", rust::run(&table, &folder)));
    let unlike = print(&names, &results);
    assert!(unlike.is_empty(), "{}", unlike.join("\n"));
}

/// Where the packages and runners go; the runners of other languages find them there too.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

fn names(table: &Value) -> Vec<&str> {
    let scenarios = table["scenarios"].as_array().expect("scenarios are a list");
    scenarios.iter().map(|scenario| scenario["name"].as_str().expect("a scenario has a name")).collect()
}

/// Lets a runner work; one that hangs is ended.
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

/// Prints the table, past the capture of tests, and returns what is not as it should be.
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
