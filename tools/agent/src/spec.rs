//! The specification of a task, as requests and the state files contain it.

use eunomia::Format;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{ApiError, Result};
use crate::limits::Limits;
use crate::restart::Restart;
use crate::sink::Sink;

/// Maximum length of a name.
const MAX_NAME: usize = 64;
/// Maximum number of arguments, and of variables.
const MAX_LIST: usize = 256;
/// Maximum length of an argument, and of the value of a variable.
const MAX_TEXT: usize = 4096;

/// The specification of a task, apart from the package.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Letters, digits, and any of `._-`.
    pub name: String,
    /// The arguments of the program.
    pub args: Vec<String>,
    /// Names and values of variables.
    pub variables: Map<String, Value>,
    /// The format of events.
    pub format: Format,
    /// Whether its programs are detached some time after the server has ended; `None`: if they can drop, deny or rewrite something.
    pub detaches_alone: Option<bool>,
    /// When it is started again after a failure.
    pub restart: Restart,
    /// The limits on what it may use.
    pub limits: Limits,
    /// The destination of its events in addition to the log.
    pub sink: Sink,
}

impl Spec {
    /// Reads the members `name`, `args`, `variables`, `format`, `on_agent_death`, `restart`, `limits` and `sink` of an object. `default` is the name if there is none.
    pub fn from_json(object: &Map<String, Value>, default: &str) -> Result<Spec> {
        let name = match object.get("name") {
            None | Some(Value::Null) => default,
            Some(Value::String(name)) => name,
            Some(other) => return Err(expected("name", "a string", other)),
        };
        check_name(name)?;
        let args = match object.get("args") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(args)) => args.iter().enumerate().map(argument).collect::<Result<_>>()?,
            Some(other) => return Err(expected("args", "an array of strings", other)),
        };
        let variables = match object.get("variables") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(variables)) => variables.clone(),
            Some(other) => return Err(expected("variables", "an object", other)),
        };
        let too_long = |value: &Value| value.to_string().len() > MAX_TEXT;
        if args.len() > MAX_LIST || variables.len() > MAX_LIST || variables.values().any(too_long) {
            let text =
                format!("at most {MAX_LIST} args and {MAX_LIST} variables, each of at most {MAX_TEXT} bytes");
            return Err(ApiError::invalid(text));
        }
        let format = match object.get("format").and_then(Value::as_str) {
            None if object.get("format").is_none_or(Value::is_null) => Format::Json,
            Some("json") => Format::Json,
            Some("text") => Format::Text,
            _ => return Err(expected("format", "\"json\" or \"text\"", &object["format"])),
        };
        let detaches_alone = match object.get("on_agent_death") {
            None | Some(Value::Null) => None,
            Some(value) if value == "keep" => Some(false),
            Some(value) if value == "detach" => Some(true),
            Some(other) => return Err(expected("on_agent_death", "\"keep\" or \"detach\"", other)),
        };
        let restart = Restart::from_json(object.get("restart").unwrap_or(&Value::Null))?;
        let limits = Limits::from_json(object.get("limits").unwrap_or(&Value::Null))?;
        let sink = Sink::from_json(object.get("sink").unwrap_or(&Value::Null))?;
        Ok(Spec { name: name.to_owned(), args, variables, format, detaches_alone, restart, limits, sink })
    }

    /// Identifies everything that decides how the programs run. A task that was loaded with another value is loaded
    /// again.
    pub fn identity(&self) -> String {
        digest(
            json!([self.args, self.variables, self.detaches_alone, self.limits.to_json()])
                .to_string()
                .as_bytes(),
        )
    }

    /// Adds those members to an object.
    pub fn write(&self, object: &mut Map<String, Value>) {
        object.insert("name".into(), json!(self.name));
        object.insert("args".into(), json!(self.args));
        object.insert("variables".into(), Value::Object(self.variables.clone()));
        object.insert("format".into(), json!(if self.format == Format::Json { "json" } else { "text" }));
        let alone = self.detaches_alone.map(|detaches| if detaches { "detach" } else { "keep" });
        object.insert("on_agent_death".into(), json!(alone));
        object.insert("restart".into(), json!(self.restart.word()));
        object.insert("limits".into(), self.limits.to_json());
        object.insert("sink".into(), self.sink.to_json());
    }
}

fn argument((index, value): (usize, &Value)) -> Result<String> {
    match value {
        Value::String(text) if text.len() <= MAX_TEXT && !text.contains('\0') => Ok(text.clone()),
        Value::String(_) => Err(ApiError::invalid(format_args!(
            "args[{index}]: longer than {MAX_TEXT} bytes, or contains NUL"
        ))),
        other => Err(expected(&format!("args[{index}]"), "a string", other)),
    }
}

/// A name is used in paths of requests, in files and in log lines.
pub fn check_name(name: &str) -> Result<()> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_fine) {
        true => Ok(()),
        false => {
            let text = format!(
                "name: {name:?} must be 1 to {MAX_NAME} letters, digits, dots, hyphens or underscores"
            );
            Err(ApiError::invalid(text))
        }
    }
}

/// The error for a member of a wrong type.
pub fn expected(name: &str, what: &str, found: &Value) -> ApiError {
    let mut found = found.to_string();
    if found.len() > 60 {
        found.truncate((0..=60).rev().find(|at| found.is_char_boundary(*at)).unwrap_or(0));
        found.push_str("...");
    }
    ApiError::invalid(format_args!("{name}: expected {what}, found {found}"))
}

/// The digest of a package, in hexadecimal digits.
pub fn digest(package: &[u8]) -> String {
    hex(&Sha256::digest(package))
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Spec> {
        let Value::Object(object) = value else { panic!("not an object") };
        Spec::from_json(&object, "default")
    }

    #[test]
    fn what_is_written_is_read() {
        let object = json!({"name": "a.b-c_1", "args": ["-p", "1"], "variables": {"v": [1, 2]}, "format": "text", "on_agent_death": "keep", "restart": "always", "limits": {"cpu_percent": 5}, "sink": "journald"});
        let spec = read(object.clone()).unwrap();
        let mut written = Map::new();
        spec.write(&mut written);
        assert_eq!(Value::Object(written), object);
        assert_eq!(read(json!({})).unwrap().name, "default");
    }

    #[test]
    fn each_mistake_has_its_own_message() {
        let message = |value| read(value).unwrap_err().message;
        assert_eq!(message(json!({"name": 1})), "name: expected a string, found 1");
        assert!(message(json!({"name": "../x"})).starts_with("name: \"../x\" must be"));
        assert!(message(json!({"name": ""})).starts_with("name: \"\" must be"));
        assert_eq!(message(json!({"args": "-p"})), "args: expected an array of strings, found \"-p\"");
        assert_eq!(message(json!({"args": ["a", 1]})), "args[1]: expected a string, found 1");
        assert!(message(json!({"args": ["a\0"]})).contains("contains NUL"));
        assert_eq!(message(json!({"variables": []})), "variables: expected an object, found []");
        assert_eq!(
            message(json!({"on_agent_death": 1})),
            "on_agent_death: expected \"keep\" or \"detach\", found 1"
        );
        assert_eq!(message(json!({"format": "xml"})), "format: expected \"json\" or \"text\", found \"xml\"");
        assert!(message(json!({"format": "é".repeat(99)})).ends_with("..."));
        assert!(message(json!({"args": vec!["a"; 300]})).starts_with("at most 256 args"));
    }
}
