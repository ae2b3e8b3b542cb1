//! Converts JSON to YAML, for human readers and their tools. Packages are read as JSON only.

use serde_json::Value;
use yaml_rust2::{Yaml, YamlEmitter};

use crate::error::Result;

/// The YAML document for `value`.
pub fn text(value: &Value) -> Result<Vec<u8>> {
    let mut text = String::new();
    let written = YamlEmitter::new(&mut text).dump(&convert(value));
    written.map_err(|error| format!("the metadata cannot be written as YAML: {error}"))?;
    text.push('\n');
    Ok(text.into_bytes())
}

/// Recursion is limited by the depth that the JSON parser accepts.
fn convert(value: &Value) -> Yaml {
    match value {
        Value::Null => Yaml::Null,
        Value::Bool(value) => Yaml::Boolean(*value),
        // Numbers are copied as text: some fit no Rust type.
        Value::Number(number) => Yaml::Real(number.to_string()),
        Value::String(text) => Yaml::String(text.clone()),
        Value::Array(list) => Yaml::Array(list.iter().map(convert).collect()),
        Value::Object(members) => {
            let pairs = members.iter().map(|(name, value)| (Yaml::String(name.clone()), convert(value)));
            Yaml::Hash(pairs.collect())
        }
    }
}
