//! Builds a table with one wrong expectation per scenario, for each kind of expectation of each call.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The members of a step that are expectations. All others are arguments.
const EXPECTATIONS: [&str; 14] = [
    "status",
    "returns",
    "errmsg",
    "errdetail",
    "errsys",
    "subject",
    "out",
    "has",
    "bytes",
    "info",
    "fields",
    "events",
    "some",
    "records",
];

/// Returns a scenario per expectation, which must fail because of it. Expectations that a call has in several scenarios are
/// used once.
pub fn table(right: &Value) -> Value {
    let (mut wrong, mut tried) = (Vec::new(), BTreeSet::new());
    for scenario in right["scenarios"].as_array().expect("scenarios are a list") {
        let steps = scenario["steps"].as_array().expect("steps are a list");
        for (i, step) in steps.iter().enumerate() {
            for (what, step) in wrong_steps(step) {
                if !tried.insert(format!("{} {what}", step["call"])) {
                    continue;
                }
                let mut steps = steps[..=i].to_vec();
                steps[i] = step;
                let name = format!("{} ({}: {what})", scenario["name"].as_str().expect("a name"), i + 1);
                wrong.push(json!({"name": name, "setup": scenario["setup"], "steps": steps}));
            }
        }
    }
    json!({"setups": right["setups"], "scenarios": wrong})
}

/// Returns copies of the step, each with one wrong expectation and that expectation's name.
fn wrong_steps(step: &Value) -> Vec<(String, Value)> {
    let given =
        ["var_set", "trigger", "map_set"].contains(&step["call"].as_str().expect("a step has a call"));
    let expected = EXPECTATIONS.iter().chain(&["need", "exit_code"]).filter(|name| !step[**name].is_null());
    let mut steps = Vec::new();
    for name in expected.filter(|name| !given || !["bytes", "events"].contains(name)) {
        for (path, value) in wrong_values(&step[*name]) {
            let mut wrong = step.clone();
            wrong[*name] = value;
            steps.push((format!("{name}{path}"), wrong));
        }
    }
    for (i, inner) in step["inside"].as_array().into_iter().flatten().enumerate() {
        for (what, inner) in wrong_steps(inner) {
            let mut wrong = step.clone();
            wrong["inside"][i] = inner;
            steps.push((format!("inside {}: {what}", i + 1), wrong));
        }
    }
    steps
}

/// Returns copies of the value, each with one wrong part and that part's path.
fn wrong_values(value: &Value) -> Vec<(String, Value)> {
    let parts: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, part)| (format!("/{name}"), part)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, part)| (format!("/{i}"), part)).collect(),
        Value::String(word) => return vec![(String::new(), other_word(word).into())],
        Value::Number(number) => return vec![(String::new(), (number.as_i64().unwrap_or(0) + 1).into())],
        other => panic!("what would be wrong for {other}?"),
    };
    let mut wrong = Vec::new();
    for (at, part) in parts {
        for (below, part) in wrong_values(part) {
            let mut whole = value.clone();
            *whole.pointer_mut(&at).expect("it is there") = part;
            wrong.push((at.clone() + &below, whole));
        }
    }
    if let Some(items) = value.as_array().filter(|items| !items.is_empty()) {
        let more = items.iter().chain(items.last()).cloned().collect();
        wrong.push(("/more".into(), Value::Array(more)));
    }
    wrong
}

/// Returns another value for the same member.
fn other_word(word: &str) -> String {
    match word {
        "known" => "unknown".into(),
        "unknown" => "known".into(),
        "EUNOMIA_ERR_NOMEM" => "EUNOMIA_ERR_WASM".into(),
        status if status.starts_with("EUNOMIA_") => "EUNOMIA_ERR_NOMEM".into(),
        other => format!("{other}00"),
    }
}
