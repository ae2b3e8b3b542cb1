//! Responses as text.

use serde_json::Value;

/// The tasks, one per line, in the format of the former client: number, name, state.
pub fn tasks(tasks: &Value) -> String {
    let line = |task: &Value| {
        let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
        let mut state = text("status");
        if let Some(first) = state.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        format!("{} {} {state}\n", task["id"], text("name"))
    };
    tasks["tasks"].as_array().into_iter().flatten().map(line).collect()
}

/// The counters of a task.
pub fn counters(stats: &Value) -> String {
    let names =
        ["events", "bytes", "lost", "malformed", "replaced", "kernel_memory", "lines_kept", "readers"];
    let mut text: String =
        names.map(|name| format!("{:<14} {}\n", name.replace('_', " "), stats[name])).concat();
    let usage = ["cpu_percent", "events_per_second", "share_percent", "skipped_ms"];
    for name in usage.into_iter().filter(|_| stats["usage"].is_object()) {
        text += &format!("{:<14} {}\n", name.replace('_', " "), stats["usage"][name]);
    }
    for source in stats["sources"].as_array().into_iter().flatten() {
        let name = source["map"].as_str().unwrap_or_default();
        let known = match source["lost_known"].as_str() {
            Some("all") => "",
            Some("reported") => ", as far as reported",
            _ => ", not counted by this kernel",
        };
        text += &format!("{name}: {} events, {} lost{known}\n", source["events"], source["lost"]);
    }
    text
}

/// The last warnings and errors about a task.
pub fn messages(found: &Value) -> String {
    let mut text = match found["dropped"].as_u64() {
        Some(count) if count > 0 => format!("{count} older lines are not kept\n"),
        _ => String::new(),
    };
    for line in found["lines"].as_array().into_iter().flatten() {
        text += &format!("{} {} {}\n", line["time"], word(&line["level"]), word(&line["text"]));
    }
    text
}

/// The maps of a task.
pub fn maps(found: &Value) -> String {
    let line = |map: &Value| {
        let types = [&map["key_type"], &map["value_type"]].map(|ty| ty.as_str().unwrap_or("?").to_owned());
        let [key, value] = types;
        format!(
            "{}: {key} -> {value}, {} entries, {} bytes\n",
            word(&map["name"]),
            map["max_entries"],
            map["bytes"]
        )
    };
    found["maps"].as_array().into_iter().flatten().map(line).collect()
}

/// The maps and programs of a task.
pub fn description(found: &Value) -> String {
    let line = |program: &Value| {
        let state = match (&program["attached"], &program["loaded"]) {
            (Value::Bool(true), _) => "attached",
            (_, Value::Bool(true)) => "loaded",
            _ => "not loaded",
        };
        format!("{} ({}): {state}\n", word(&program["name"]), word(&program["section"]))
    };
    let programs = found["programs"].as_array().into_iter().flatten().map(line);
    programs.collect::<String>() + &maps(found)
}

/// The plan of a start or replace.
pub fn plan(found: &Value) -> String {
    let mut text = String::new();
    for program in found["programs"].as_array().into_iter().flatten() {
        let state = match (program["reason"].as_str(), program["ok"].as_bool()) {
            (Some(reason), _) => reason.to_owned(),
            (None, Some(true)) => "accepted".to_owned(),
            _ => "not accepted".to_owned(),
        };
        text += &format!("{} ({}): {state}\n", word(&program["name"]), word(&program["section"]));
        let effects = program["effects"].as_array().into_iter().flatten().map(word).collect::<Vec<_>>();
        if !effects.is_empty() {
            text += &format!("    could: {}\n", effects.join(", "));
        }
    }
    text += &maps(found);
    text += &format!("kernel memory: {} bytes\n", found["kernel_memory"]);
    if !found["replace"].is_null() {
        text += &format!("replace: {}\n", found["replace"]);
    }
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
