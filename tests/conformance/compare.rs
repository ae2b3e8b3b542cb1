//! Compares the outcome of a step with the expectations of the table.

use std::ffi::CStr;

use eunomia::{Error, Subject, capi};
use serde_json::Value;

use super::rust::{Outcome, hex};

/// Returns the C name of a status.
pub fn status_name(status: i64) -> String {
    // SAFETY: the text is static.
    let name = unsafe { CStr::from_ptr(capi::eunomia_status_name(status as i32)) };
    name.to_str().expect("UTF-8").to_owned()
}

/// Returns the first difference.
pub fn compare(step: &Value, error: Option<&Error>, out: &Outcome) -> Option<String> {
    let no_text = "nothing".to_owned();
    let text = out.text.as_ref().unwrap_or(&no_text);
    let bytes = out.bytes.as_ref().map_or_else(String::new, |bytes| hex(bytes));
    let given = ["var_set", "trigger"].contains(&step["call"].as_str().unwrap_or_default());
    failure(step, error)
        .or_else(|| same("returned", &step["returns"], &out.returned.into()))
        .or_else(|| same("exit_code", &step["exit_code"], &out.exit_code.into()))
        .or_else(|| same("need", &step["need"], &out.need.into()))
        .or_else(|| same("out", &step["out"], &text.as_str().into()))
        .or_else(|| part("out", &step["has"], text))
        .or_else(|| same("bytes", &step["bytes"], &bytes.into()).filter(|_| !given))
        .or_else(|| list(&step["events"], &out.events).filter(|_| !given))
        .or_else(|| list(&step["records"], &out.events))
        .or_else(|| some(&step["some"], &out.events))
        .or_else(|| members("info", &step["info"], &out.info))
        .or_else(|| fields(&step["fields"], &out.info))
}

fn failure(step: &Value, error: Option<&Error>) -> Option<String> {
    let found = status_name(error.map_or(0, |error| error.status() as i64));
    let expected = step["status"].as_str().unwrap_or("EUNOMIA_OK");
    let message = &error.map_or(String::new(), Error::to_string);
    if found != expected {
        return Some(format!("{found} ({message}), not {expected}"));
    }
    part("errmsg", &step["errmsg"], message)
        .or_else(|| part("errdetail", &step["errdetail"], error.map_or("", |error| error.detail())))
        .or_else(|| same("subject", &step["subject"], &subject(error).into()))
        .or_else(|| same("errsys", &step["errsys"], &error.and_then(Error::errno).unwrap_or(0).into()))
}

/// Returns the subject of an error in the table's form: `map counts`, "" for none.
fn subject(error: Option<&Error>) -> String {
    let Some(subject) = error.and_then(|error| error.subject()) else { return String::new() };
    let kind = match subject {
        Subject::Variable(_) => "variable",
        Subject::Map(_) => "map",
        Subject::Program { .. } => "program",
        Subject::Metadata(_) => "metadata",
        Subject::File(_) => "file",
        _ => "unknown",
    };
    format!("{kind} {}", subject.name())
}

/// Compares with an expectation, if there is one.
fn same(what: &str, expected: &Value, found: &Value) -> Option<String> {
    (!expected.is_null() && expected != found).then(|| format!("{what} is {found}, not {expected}"))
}

fn part(what: &str, expected: &Value, found: &str) -> Option<String> {
    let part = expected.as_str().unwrap_or("");
    (!found.contains(part)).then(|| format!("{what} is {found}, without {part}"))
}

fn list(expected: &Value, found: &[Value]) -> Option<String> {
    let expected = expected.as_array()?;
    if expected.len() != found.len() {
        return Some(format!("{} items, not {}", found.len(), expected.len()));
    }
    let unlike = expected.iter().zip(found).find(|(expected, found)| !is_like(expected, found))?;
    Some(format!("{} is not {}", unlike.1, unlike.0))
}

fn some(expected: &Value, found: &[Value]) -> Option<String> {
    let missing = !expected.is_null() && !found.iter().any(|found| is_like(expected, found));
    missing.then(|| format!("no event of {} is {expected}", found.len()))
}

/// Whether an event meets its expectation.
fn is_like(expected: &Value, found: &Value) -> bool {
    let kind = expected["kind"].as_str().unwrap_or("sample");
    let data = found["data"].as_str().unwrap_or_default();
    let named = ["data", "key", "source", "type", "cpu", "time", "vm"];
    kind == found["kind"]
        && data.contains(expected["has"].as_str().unwrap_or(""))
        && named.iter().all(|name| expected[*name].is_null() || expected[*name] == found[*name])
}

/// Compares the members that the table names.
fn members(what: &str, expected: &Value, found: &Value) -> Option<String> {
    let mut members = expected.as_object()?.iter();
    members.find_map(|(name, value)| same(&format!("{what}.{name}"), value, &found[name]))
}

fn fields(expected: &Value, found: &Value) -> Option<String> {
    let expected = expected.as_array()?;
    let found = found.as_array()?;
    if expected.len() != found.len() {
        return Some(format!("{} fields, not {}", found.len(), expected.len()));
    }
    let mut pairs = expected.iter().zip(found).enumerate();
    pairs.find_map(|(i, (expected, found))| members(&format!("fields.{i}"), expected, found))
}
