//! A JSON value that knows where it stands, so that every complaint names the place.
//!
//! Must not know what a package means; it only answers "is this a text, a number, an array".

use serde_json::Value;

use super::error;
use crate::error::{Error, Result};

/// Most entries an array may have: maps, programs, variables, types, members.
const MAX_ENTRIES: usize = 4096;
/// Longest name, in bytes; the kernel's own limit for a BTF name.
const MAX_NAME: usize = 512;
/// Longest piece of a foreign value that a message quotes, in characters.
const MAX_QUOTED: usize = 40;

#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub value: &'a Value,
    pub path: String,
}

impl<'a> Node<'a> {
    pub fn new(value: &'a Value, path: impl Into<String>) -> Node<'a> {
        Node { value, path: path.into() }
    }

    /// The member `key`; null counts as absent.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Node { value, path: join(&self.path, key) })
    }

    /// The member `key`, which has to be there.
    pub fn need(&self, key: &str) -> Result<Node<'a>> {
        self.get(key).ok_or_else(|| error(format!("{}: missing", join(&self.path, key))))
    }

    /// Itself, if it is an object.
    pub fn object(self) -> Result<Node<'a>> {
        if self.value.is_object() { Ok(self) } else { Err(self.expected("an object")) }
    }

    /// The elements of the array `key`; absent counts as empty.
    pub fn list(&self, key: &str) -> Result<Vec<Node<'a>>> {
        self.get(key).map_or(Ok(Vec::new()), |node| node.elements())
    }

    /// The elements of an array.
    pub fn elements(&self) -> Result<Vec<Node<'a>>> {
        let items = self.value.as_array().ok_or_else(|| self.expected("an array"))?;
        self.check_count(items.len())?;
        let node = |(index, value)| Node { value, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(node).collect())
    }

    /// The members of an object whose keys are names.
    pub fn members(&self) -> Result<impl Iterator<Item = (&'a String, &'a Value)>> {
        let members = self.value.as_object().ok_or_else(|| self.expected("an object"))?;
        self.check_count(members.len())?;
        members.keys().try_for_each(|key| self.check_name(key))?;
        Ok(members.iter())
    }

    /// Refuses more entries than a package may have at this place.
    pub fn check_count(&self, count: usize) -> Result<()> {
        if count <= MAX_ENTRIES {
            return Ok(());
        }
        Err(self.error(format!("{count} entries, and at most {MAX_ENTRIES} are read")))
    }

    /// A text that names something: not empty, of bounded length, fit for a C string.
    pub fn name(&self) -> Result<String> {
        let text = self.value.as_str().ok_or_else(|| self.expected("a name"))?;
        self.check_name(text)?;
        Ok(text.to_owned())
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(self.error("a name must not be empty"));
        }
        if name.len() > MAX_NAME {
            return Err(
                self.error(format!("a name of {} bytes, and at most {MAX_NAME} are read", name.len()))
            );
        }
        self.check_text(name)
    }

    /// A text for people. Numbers and booleans count: the compiler reads `@version 1.0` as a number.
    pub fn text(&self) -> Result<String> {
        match self.value {
            Value::String(text) => self.check_text(text).map(|()| text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(self.value.to_string()),
            _ => Err(self.expected("a text")),
        }
    }

    /// Every text may end up as a C string.
    fn check_text(&self, text: &str) -> Result<()> {
        if text.contains('\0') { Err(self.error("contains a NUL character")) } else { Ok(()) }
    }

    pub fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// A whole number of at least `low`; `1e3` is one as well.
    pub fn u32_from(&self, low: u32) -> Result<u32> {
        let number = self.u64_from(low.into())?;
        u32::try_from(number).map_err(|_| self.expected(&format!("a whole number of at most {}", u32::MAX)))
    }

    pub fn u64_from(&self, low: u64) -> Result<u64> {
        let number = whole(self.value).and_then(|number| u64::try_from(number).ok());
        number.filter(|number| *number >= low).ok_or_else(|| match low {
            0 => self.expected("a whole number"),
            _ => self.expected(&format!("a whole number of at least {low}")),
        })
    }

    pub fn i32(&self) -> Result<i32> {
        let number = whole(self.value).and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| self.expected("a whole number of 32 bits"))
    }

    pub fn expected(&self, what: &str) -> Error {
        self.error(format!("expected {what}, found {}", quote(self.value)))
    }

    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        let Node { path, .. } = self;
        error(if path.is_empty() { reason.to_string() } else { format!("{path}: {reason}") })
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The value of a number that has no fraction and is exact in its JSON form.
fn whole(value: &Value) -> Option<i128> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    if let Some(number) = value.as_u64() {
        return Some(number.into());
    }
    if let Some(number) = value.as_i64() {
        return Some(number.into());
    }
    value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && number.abs() <= EXACT)
        .map(|number| number as i128)
}

/// A value as a message shows it: on one line, and cut where it is long.
fn quote(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
        Value::String(text) if text.chars().count() > MAX_QUOTED => {
            Value::from(text.chars().take(MAX_QUOTED).chain(['…']).collect::<String>()).to_string()
        }
        other => other.to_string(),
    }
}
