//! The table as lines, for languages whose libraries cannot read JSON.

use serde_json::Value;

/// Returns a line for each scenario, followed by one for each of its steps.
pub fn of(table: &Value) -> String {
    let mut text = String::new();
    for scenario in list(&table["scenarios"]) {
        text += &format!("scenario\t{}\n", scenario["name"].as_str().expect("a scenario has a name"));
        let setup = scenario["setup"].as_str().expect("a scenario has a setup");
        for step in list(&table["setups"][setup]).iter().chain(list(&scenario["steps"])) {
            text += "step";
            add(&mut text, "", step);
            text.push('\n');
        }
    }
    text
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

/// Adds `value` as fields whose names begin with `key`.
fn add(text: &mut String, key: &str, value: &Value) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| add(text, &below(name), member)),
        Value::Array(items) => {
            field(text, key, &items.len().to_string());
            items.iter().enumerate().for_each(|(i, item)| add(text, &below(&i.to_string()), item));
        }
        Value::Bool(yes) => field(text, key, if *yes { "1" } else { "0" }),
        Value::String(word) => field(text, key, word),
        other => field(text, key, &other.to_string()),
    }
}

fn field(text: &mut String, key: &str, value: &str) {
    assert!(!value.contains(['\t', '\n']), "no field can hold {value:?}");
    *text += &format!("\t{key}={value}");
}
