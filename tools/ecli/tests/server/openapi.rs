//! tools/agent/openapi.json describes what the server does: every route is in it, and every response has the described form.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;

use eunomia_agent::api::OPENAPI;
use eunomia_agent::router::ROUTES;
use serde_json::{Value, json};

use crate::support::package;
use crate::{Server, needs_root, package_value};

fn description() -> Value {
    serde_json::from_str(OPENAPI).expect("JSON")
}

#[test]
fn all_routes_are_described_and_no_others() {
    let description = description();
    let mut described = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routes: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(described, routes);
}

/// Returns why a value does not match a schema.
fn problem(schema: &Value, value: &Value, all: &Value) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return problem(all.pointer(&name[1..]).expect("a schema"), value, all);
    }
    let is_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the test does not know the type {other}"),
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    if !types.is_empty() && !types.iter().any(|name| is_type(name)) {
        return Some(format!("{value} is not of type {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return Some(format!("{value} is not one of {}", schema["enum"]));
    }
    let missing = |name: &&Value| value.is_object() && value.get(name.as_str().unwrap()).is_none();
    if let Some(name) = schema["required"].as_array().into_iter().flatten().find(missing) {
        return Some(format!("{name} is missing in {value}"));
    }
    if let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object()) {
        for (name, value) in object {
            let Some(schema) = properties.get(name) else {
                return Some(format!("{name} is not described"));
            };
            if let Some(problem) = problem(schema, value, all) {
                return Some(format!("{name}: {problem}"));
            }
        }
    }
    value.as_array()?.iter().find_map(|element| problem(&schema["items"], element, all))
}

#[test]
fn the_checker_finds_problems() {
    let all = json!({"components": {"schemas": {"A": {"type": "integer"}}}});
    let schema = json!({
        "type": "object", "required": ["a"],
        "properties": {"a": {"$ref": "#/components/schemas/A"}, "b": {"type": "array", "items": {"enum": ["x"]}}},
    });
    let is_fine = |value: Value| problem(&schema, &value, &all).is_none();
    assert!(is_fine(json!({"a": 1, "b": ["x"]})));
    for value in
        [json!([]), json!({}), json!({"a": "1"}), json!({"a": 1, "b": ["y"]}), json!({"a": 1, "c": 1})]
    {
        assert!(!is_fine(value.clone()), "{value}");
    }
}

#[test]
fn responses_are_as_described() {
    needs_root!();
    let server = Server::start(&["--compat-e1"]);
    let description = description();
    let mut seen = BTreeSet::new();
    let mut check = |method: &str, path: &str, body: Value| {
        let (code, value) = server.request(method, path, &body);
        let pattern = path.split('?').next().unwrap().replace("/1", "/{id}").replace("/exec_time", "/{map}");
        let operation = &description["paths"][&pattern][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {pattern}");
        let response = match &operation["responses"][code.to_string()] {
            Value::Null => &operation["responses"]["default"],
            response => response,
        };
        let (kind, content) = response["content"].as_object().unwrap().iter().next().unwrap();
        let values = match kind.as_str() {
            "application/json" => vec![value.clone()],
            _ => value
                .as_str()
                .unwrap()
                .lines()
                .filter(|line| line.starts_with('{'))
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
        };
        for value in values {
            assert_eq!(problem(&content["schema"], &value, &description), None, "{method} {path}: {code}");
        }
        seen.insert((method.to_owned(), pattern));
        (code, value)
    };
    let package = package_value(&package("bootstrap"));
    let start = json!({"package": package});
    assert_eq!(check("GET", "/v1/version", Value::Null).0, 200);
    assert_eq!(check("GET", "/v1/openapi.json", Value::Null).1, description);
    assert_eq!(check("POST", "/v1/describe", start.clone()).0, 200);
    assert_eq!(check("POST", "/v1/tasks", start.clone()).0, 201);
    assert_eq!(check("POST", "/v1/tasks", start.clone()).0, 200);
    assert_eq!(check("POST", "/v1/tasks", json!({})).0, 400);
    for path in [
        "/v1/tasks",
        "/v1/tasks/1",
        "/v1/tasks/1/stats",
        "/v1/tasks/1/inspect",
        "/v1/tasks/1/events?follow=false",
        "/v1/tasks/1/maps",
        "/v1/tasks/1/maps/exec_time?limit=5",
        "/v1/tasks/1/logs",
        "/task",
    ] {
        assert_eq!(check("GET", path, Value::Null).0, 200, "{path}");
    }
    assert_eq!(check("PUT", "/v1/tasks/1/package", start.clone()).0, 200);
    assert_eq!(check("POST", "/v1/plan", start.clone()).0, 200);
    assert_eq!(check("POST", "/v1/plan", json!({"task": 1, "package": package})).0, 200);
    for path in ["/v1/tasks/1/pause", "/v1/tasks/1/resume"] {
        assert_eq!(check("POST", path, Value::Null).0, 200, "{path}");
    }
    assert_eq!(check("DELETE", "/v1/tasks/1", Value::Null).0, 200);
    assert_eq!(check("GET", "/v1/tasks/1", Value::Null).0, 404);
    let former = json!({"program_data_buf": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, package.to_string()), "program_type": "json"});
    assert_eq!(check("POST", "/task", former).0, 200);
    for path in ["/log", "/pause", "/resume", "/stop"] {
        assert_eq!(check("POST", path, json!({"id": 2})).0, 200, "{path}");
    }
    assert_eq!(check("POST", "/start", package.clone()).1, json!(["status", "ok", "id", 3]));
    assert_eq!(check("GET", "/list", Value::Null).0, 200);
    let all: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(seen, all, "each operation was tried");
    // Without a body at all.
    let stream = UnixStream::connect(server.path("socket")).unwrap();
    let (code, error) = crate::exchange(stream, "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(
        (code, problem(&description["components"]["schemas"]["Error"], &error, &description)),
        (415, None)
    );
}
