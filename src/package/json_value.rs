//! A JSON value with its path, so that every error names the path.
//!
//! Knows nothing about packages; it only converts values to strings, numbers, lists and the like.

use std::fmt::{self, Display, Formatter};

use serde_json::{Map, Value};

use crate::error::{Error, Result, Status, Subject};
use crate::number::parse_float;

/// Maximum number of entries of an array: maps, programs, variables, types, members.
pub const MAX_ENTRIES: usize = 4096;
/// Maximum number of bytes of a name; the kernel's limit for names in BTF.
const MAX_NAME: usize = 512;
/// Maximum number of characters of a value that a message quotes.
const MAX_QUOTED: usize = 40;

/// Creates an error about a package.
pub(super) fn error(message: impl Display) -> Error {
    Error::new(Status::Package, message)
}

/// A value and its path. The path is formatted only for an error.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub value: &'a Value,
    parent: Option<&'a Node<'a>>,
    /// Its key in the parent, or empty.
    key: &'a str,
    /// Its index in the array with that key.
    index: Option<usize>,
}

impl<'a> Node<'a> {
    /// Creates a node with a path; an empty path means the document.
    pub fn new(value: &'a Value, path: &'a str) -> Node<'a> {
        Node { value, parent: None, key: path, index: None }
    }

    /// Returns the member `key`. Null means absent.
    pub fn get(&'a self, key: &'a str) -> Option<Node<'a>> {
        let member = self.member(key);
        if member.value.is_null() { None } else { Some(member) }
    }

    /// Returns the member `key`, or an error if it is absent.
    pub fn required(&'a self, key: &'a str) -> Result<Node<'a>> {
        self.get(key).ok_or_else(|| self.missing(key))
    }

    /// Returns the name in the member `key`, or an error if it is absent.
    pub fn required_name(&self, key: &str) -> Result<String> {
        self.required(key)?.name()
    }

    /// Returns the string in the member `key`, or an error if it is absent.
    pub fn required_string(&self, key: &str) -> Result<String> {
        self.required(key)?.string()
    }

    /// Converts the member `key` with `read`; `None` if it is absent.
    #[inline(never)]
    pub fn optional<T>(&self, key: &str, read: fn(&Node) -> Result<T>) -> Result<Option<T>> {
        match self.get(key) {
            Some(member) => read(&member).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the string in the member `key`.
    pub fn optional_string(&self, key: &str) -> Result<Option<String>> {
        self.optional(key, |string| string.string())
    }

    /// Returns the name in the member `key`.
    pub fn optional_name(&self, key: &str) -> Result<Option<String>> {
        self.optional(key, |name| name.name())
    }

    /// Returns the number in the member `key`, which must be at least `low`, or an error if it is absent.
    pub fn required_u32(&self, key: &str, low: u32) -> Result<u32> {
        self.required(key)?.u32_at_least(low)
    }

    /// Returns the number in the member `key`, which must be at least `low`.
    pub fn optional_u32(&self, key: &str, low: u32) -> Result<Option<u32>> {
        self.get(key).map(|number| number.u32_at_least(low)).transpose()
    }

    /// Returns the boolean in the member `key`; false if it is absent.
    pub fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.optional(key, |flag| flag.bool())?.unwrap_or(false))
    }

    /// The error for an absent member.
    pub fn missing(&self, key: &str) -> Error {
        self.member(key).error("missing")
    }

    /// Returns the member `key`; null if it is absent.
    pub fn member(&'a self, key: &'a str) -> Node<'a> {
        let value = self.value.get(key).unwrap_or(&Value::Null);
        Node { value, parent: Some(self), key, index: None }
    }

    /// Returns the node if it is an object.
    pub fn object(self) -> Result<Node<'a>> {
        if self.value.is_object() { Ok(self) } else { Err(self.expected("an object")) }
    }

    /// Returns the elements of the array `key`; none if it is absent.
    pub fn list(&'a self, key: &'a str) -> Result<Vec<Node<'a>>> {
        let array = self.member(key);
        if array.value.is_null() { Ok(Vec::new()) } else { array.elements_of(Some(self), key) }
    }

    /// Returns the elements of an array.
    pub fn elements(&'a self) -> Result<Vec<Node<'a>>> {
        self.elements_of(Some(self), "")
    }

    /// Returns the elements, with the path of the array `key` in `parent`.
    fn elements_of<'b>(&self, parent: Option<&'b Node<'b>>, key: &'b str) -> Result<Vec<Node<'b>>>
    where
        'a: 'b,
    {
        let items = self.value.as_array().ok_or_else(|| self.expected("an array"))?;
        self.check_count(items.len())?;
        Ok(items
            .iter()
            .enumerate()
            .map(|(index, value)| Node { value, parent, key, index: Some(index) })
            .collect())
    }

    /// Refuses an object with keys that are not in the list.
    pub fn check_keys(&self, known: &str) -> Result<()> {
        let keys = self.value.as_object().into_iter().flat_map(Map::keys);
        match keys.into_iter().find(|key| !is_listed(known, key)) {
            None => Ok(()),
            Some(key) => Err(self.error(format_args!("unknown key {key:?}; the keys are: {known}"))),
        }
    }

    /// Returns the members of an object whose keys are names.
    pub fn members(&self) -> Result<&'a Map<String, Value>> {
        let members = self.value.as_object().ok_or_else(|| self.expected("an object"))?;
        self.check_count(members.len())?;
        members.keys().try_for_each(|key| self.check_name(key))?;
        Ok(members)
    }

    /// Refuses more entries than an array may have.
    pub fn check_count(&self, count: usize) -> Result<()> {
        if count <= MAX_ENTRIES {
            return Ok(());
        }
        Err(self.error(format_args!("{count} entries, and at most {MAX_ENTRIES} are read")))
    }

    /// Returns a name: a C string that is neither empty nor too long.
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
                self.error(format_args!("a name of {} bytes, and at most {MAX_NAME} are read", name.len()))
            );
        }
        self.check_nul(name)
    }

    /// Returns a string. Converts numbers and booleans, because compilers write `@version 1.0` as a number.
    fn string(&self) -> Result<String> {
        match self.value {
            Value::String(text) => self.check_nul(text).map(|()| text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(compact(self.value)),
            _ => Err(self.expected("a string")),
        }
    }

    /// Every string may be passed to C.
    fn check_nul(&self, text: &str) -> Result<()> {
        if text.contains('\0') { Err(self.error("contains a NUL character")) } else { Ok(()) }
    }

    /// Returns a boolean.
    pub fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// Returns an integer of at least `low`. `1e3` is an integer, too.
    pub fn u32_at_least(&self, low: u32) -> Result<u32> {
        let number = self.u64_at_least(low.into())?;
        u32::try_from(number)
            .map_err(|_| self.expected(format_args!("a whole number of at most {}", u32::MAX)))
    }

    pub fn u64_at_least(&self, low: u64) -> Result<u64> {
        let number = exact_integer(self.value).and_then(|number| u64::try_from(number).ok());
        number.filter(|number| *number >= low).ok_or_else(|| match low {
            0 => self.expected("a whole number"),
            _ => self.expected(format_args!("a whole number of at least {low}")),
        })
    }

    pub fn i32(&self) -> Result<i32> {
        let number = exact_integer(self.value).and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| self.expected("a whole number of 32 bits"))
    }

    pub fn expected(&self, what: impl Display) -> Error {
        self.error(format_args!("expected {what}, found {}", Quoted(self.value)))
    }

    pub fn error(&self, reason: impl Display) -> Error {
        self.complain(&reason)
    }

    fn complain(&self, reason: &dyn Display) -> Error {
        let error = error(reason);
        if self.parent.is_none() && self.key.is_empty() {
            return error;
        }
        error.about(Subject::Metadata(self.to_string()))
    }
}

/// Whether a key is in a list separated by commas.
pub fn is_listed(list: &str, key: &str) -> bool {
    list.split(',').any(|listed| listed.trim_start() == key)
}

/// Formats the path: `meta.bpf_skel.maps[2].name`.
impl Display for Node<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            let is_first = parent.parent.is_none() && parent.key.is_empty();
            f.write_str(if is_first || self.key.is_empty() { "" } else { "." })?;
        }
        f.write_str(self.key)?;
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

/// An index by name. It is a JSON object because the code of JSON objects is linked anyway.
#[derive(Default)]
pub struct NameIndex(Map<String, Value>);

impl NameIndex {
    /// Sets the index of a name; returns the previous one.
    pub fn insert(&mut self, name: &str, index: usize) -> Option<usize> {
        as_index(&self.0.insert(name.to_owned(), index.into())?)
    }

    /// Returns the index of a name.
    pub fn get(&self, name: &str) -> Option<usize> {
        as_index(self.0.get(name)?)
    }
}

fn as_index(value: &Value) -> Option<usize> {
    value.as_u64().map(|index| index as usize)
}

/// Returns the value of an integer that is exact in its JSON form.
fn exact_integer(value: &Value) -> Option<i128> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    if let Some(number) = value.as_u64() {
        return Some(number.into());
    }
    if let Some(number) = value.as_i64() {
        return Some(number.into());
    }
    parse_float(value.as_number()?.as_str())
        .filter(|number| number.fract() == 0.0 && number.abs() <= EXACT)
        .map(|number| number as i128)
}

/// Formats a value as JSON on one line. `Display` of a value would also link the code for several lines (2 kB).
pub fn compact(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Formats a value for a message: on one line, shortened if it is long.
struct Quoted<'a>(&'a Value);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.0 {
            Value::Array(_) => f.write_str("an array"),
            Value::Object(_) => f.write_str("an object"),
            Value::String(text) => match text.char_indices().nth(MAX_QUOTED) {
                Some((end, _)) => f.write_str(&compact(&Value::from(format!("{}…", &text[..end])))),
                None => f.write_str(&compact(self.0)),
            },
            other => f.write_str(&compact(other)),
        }
    }
}
