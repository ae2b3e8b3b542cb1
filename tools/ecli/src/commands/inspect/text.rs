//! Formats the report as text.

use std::fmt::Write;

use serde_json::Value;

/// The human-readable report.
pub fn text(report: &Value) -> String {
    let mut text = String::new();
    line(
        &mut text,
        0,
        &format!("{}: {}, {} bytes", word(&report["name"]), word(&report["kind"]), report["bytes"]),
    );
    for (key, title) in [("imports", "imports"), ("exports", "exports")] {
        if let Some(names) = report[key].as_array().filter(|names| !names.is_empty()) {
            line(&mut text, 1, &format!("{title}: {}", list(names)));
        }
    }
    for note in report["unseen"].as_array().into_iter().flatten() {
        line(&mut text, 1, word(note));
    }
    for package in report["packages"].as_array().into_iter().flatten() {
        package_text(package, &mut text);
    }
    text
}

fn package_text(package: &Value, text: &mut String) {
    line(text, 0, "");
    if let Some(error) = package["error"].as_str() {
        return line(text, 0, &format!("object, {} bytes: cannot open: {error}", package["bytes"]));
    }
    let name = package["name"].as_str().filter(|name| !name.is_empty());
    let object = name.map_or_else(|| "object".to_owned(), |name| format!("object {name}"));
    line(text, 0, &format!("{object}, {} bytes", package["bytes"]));
    if let Some(description) = package["description"].as_str() {
        line(text, 1, description);
    }
    section(text, "programs", &package["programs"], |text, program| {
        line(
            text,
            2,
            &format!(
                "{}  SEC(\"{}\"), {}",
                word(&program["name"]),
                word(&program["section"]),
                word(&program["type"])
            ),
        );
        for (key, title) in [("helpers", "calls"), ("kfuncs", "calls kernel functions"), ("effects", "could")]
        {
            if let Some(names) = program[key].as_array().filter(|names| !names.is_empty()) {
                line(text, 3, &format!("{title}: {}", list(names)));
            }
        }
    });
    section(text, "maps", &package["maps"], |text, map| {
        let types = match (map["key"].as_str(), map["value"].as_str()) {
            (Some(key), Some(value)) => format!(", {key} -> {value}"),
            (None, Some(value)) => format!(", {value}"),
            _ => String::new(),
        };
        let pinned = map["pinned"].as_str().map_or_else(String::new, |path| format!(", pinned at {path}"));
        line(
            text,
            2,
            &format!(
                "{}  {}, {} entries, {} bytes{types}{pinned}",
                word(&map["name"]),
                word(&map["type"]),
                map["max_entries"],
                map["bytes"]
            ),
        );
    });
    line(text, 1, &format!("kernel memory with full maps: {} bytes", package["kernel_memory"]));
    section(text, "variables", &package["variables"], |text, var| {
        let constant = if var["constant"] == true { "const " } else { "" };
        line(text, 2, &format!("{constant}{} {} = {}", word(&var["type"]), word(&var["name"]), var["value"]));
    });
    section(text, "events", &package["events"], |text, event| {
        line(text, 2, &format!("{}, {} bytes", word(&event["name"]), event["size"]));
        for member in event["members"].as_array().into_iter().flatten() {
            line(text, 3, &format!("{} {}", word(&member["type"]), word(&member["name"])));
        }
    });
}

fn section(text: &mut String, title: &str, items: &Value, mut each: impl FnMut(&mut String, &Value)) {
    let items = items.as_array().map_or(&[][..], Vec::as_slice);
    if !items.is_empty() {
        line(text, 1, title);
        items.iter().for_each(|item| each(text, item));
    }
}

/// Appends a line. Names are not trusted and may contain line ends.
fn line(text: &mut String, depth: usize, line: &str) {
    let line = eunomia::error::visible(line, b"");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:1$}{line}", "", 2 * depth);
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(names: &[Value]) -> String {
    names.iter().map(word).collect::<Vec<_>>().join(", ")
}
