//! A JSON value that knows where it stands, so that every complaint names the place.
//!
//! Must not know what a package means; it only answers "is this a text, a number, an array".

use std::fmt::{self, Display, Formatter};

use serde_json::{Map, Value};

use crate::error::{Error, Result, Status, Subject};
use crate::number::parse_float;

/// Most entries an array may have: maps, programs, variables, types, members.
pub const MAX_ENTRIES: usize = 4096;
/// Longest name, in bytes; the kernel's own limit for a BTF name.
const MAX_NAME: usize = 512;
/// Longest piece of a foreign value that a message quotes, in characters.
const MAX_QUOTED: usize = 40;

/// An error of a package.
pub(super) fn error(message: impl Display) -> Error {
    Error::new(Status::Package, message)
}

/// A value and the way to it, which is put into words only where there is something to complain about.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub value: &'a Value,
    parent: Option<&'a Node<'a>>,
    /// Its key in the parent; empty if it has none.
    key: &'a str,
    /// Its place in the array that has that key.
    index: Option<usize>,
}

impl<'a> Node<'a> {
    /// The value that messages call `path`; empty for a whole document.
    pub fn new(value: &'a Value, path: &'a str) -> Node<'a> {
        Node { value, parent: None, key: path, index: None }
    }

    /// The member `key`; null counts as absent.
    pub fn get(&'a self, key: &'a str) -> Option<Node<'a>> {
        let member = self.member(key);
        if member.value.is_null() { None } else { Some(member) }
    }

    /// The member `key`, which has to be there.
    pub fn need(&'a self, key: &'a str) -> Result<Node<'a>> {
        self.get(key).ok_or_else(|| self.missing(key))
    }

    /// The name that the member `key` holds, which has to be there.
    pub fn need_name(&self, key: &str) -> Result<String> {
        self.need(key)?.name()
    }

    /// The text for people that the member `key` holds, which has to be there.
    pub fn need_text(&self, key: &str) -> Result<String> {
        self.need(key)?.text()
    }

    /// What `read` makes of the member `key`; none if it is absent.
    #[inline(never)]
    pub fn read<T>(&self, key: &str, read: fn(&Node) -> Result<T>) -> Result<Option<T>> {
        match self.get(key) {
            Some(member) => read(&member).map(Some),
            None => Ok(None),
        }
    }

    /// The text for people that the member `key` holds.
    pub fn text_of(&self, key: &str) -> Result<Option<String>> {
        self.read(key, |text| text.text())
    }

    /// The name that the member `key` holds.
    pub fn name_of(&self, key: &str) -> Result<Option<String>> {
        self.read(key, |name| name.name())
    }

    /// The number of at least `low` that the member `key` holds, which has to be there.
    pub fn need_u32(&self, key: &str, low: u32) -> Result<u32> {
        self.need(key)?.u32_from(low)
    }

    /// The number of at least `low` that the member `key` holds.
    pub fn u32_of(&self, key: &str, low: u32) -> Result<Option<u32>> {
        self.get(key).map(|number| number.u32_from(low)).transpose()
    }

    /// Whether the member `key` is true; absent counts as false.
    pub fn is_true(&self, key: &str) -> Result<bool> {
        Ok(self.read(key, |flag| flag.bool())?.unwrap_or(false))
    }

    /// The complaint that there is no member `key`.
    pub fn missing(&self, key: &str) -> Error {
        self.member(key).error("missing")
    }

    /// The member `key`; null if there is none.
    pub fn member(&'a self, key: &'a str) -> Node<'a> {
        let value = self.value.get(key).unwrap_or(&Value::Null);
        Node { value, parent: Some(self), key, index: None }
    }

    /// Itself, if it is an object.
    pub fn object(self) -> Result<Node<'a>> {
        if self.value.is_object() { Ok(self) } else { Err(self.expected("an object")) }
    }

    /// The elements of the array `key`; absent counts as empty.
    pub fn list(&'a self, key: &'a str) -> Result<Vec<Node<'a>>> {
        let array = self.member(key);
        if array.value.is_null() { Ok(Vec::new()) } else { array.elements_of(Some(self), key) }
    }

    /// The elements of an array.
    pub fn elements(&'a self) -> Result<Vec<Node<'a>>> {
        self.elements_of(Some(self), "")
    }

    /// Its elements, as those of the array `key` in `parent`.
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

    /// Refuses an object that has any other key than those in a list.
    pub fn only(&self, known: &str) -> Result<()> {
        let keys = self.value.as_object().into_iter().flat_map(Map::keys);
        match keys.into_iter().find(|key| !is_listed(known, key)) {
            None => Ok(()),
            Some(key) => Err(self.error(format_args!("no such key {key:?}; there are: {}", known))),
        }
    }

    /// The members of an object whose keys are names.
    pub fn members(&self) -> Result<&'a Map<String, Value>> {
        let members = self.value.as_object().ok_or_else(|| self.expected("an object"))?;
        self.check_count(members.len())?;
        members.keys().try_for_each(|key| self.check_name(key))?;
        Ok(members)
    }

    /// Refuses more entries than a package may have at this place.
    pub fn check_count(&self, count: usize) -> Result<()> {
        if count <= MAX_ENTRIES {
            return Ok(());
        }
        Err(self.error(format_args!("{count} entries, and at most {MAX_ENTRIES} are read")))
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
                self.error(format_args!("a name of {} bytes, and at most {MAX_NAME} are read", name.len()))
            );
        }
        self.check_text(name)
    }

    /// A text for people. Numbers and booleans count: the compiler reads `@version 1.0` as a number.
    fn text(&self) -> Result<String> {
        match self.value {
            Value::String(text) => self.check_text(text).map(|()| text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(compact(self.value)),
            _ => Err(self.expected("a text")),
        }
    }

    /// Every text may end up as a C string.
    fn check_text(&self, text: &str) -> Result<()> {
        if text.contains('\0') { Err(self.error("contains a NUL character")) } else { Ok(()) }
    }

    /// True or false.
    pub fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// A whole number of at least `low`; `1e3` is one as well.
    pub fn u32_from(&self, low: u32) -> Result<u32> {
        let number = self.u64_from(low.into())?;
        u32::try_from(number)
            .map_err(|_| self.expected(format_args!("a whole number of at most {}", u32::MAX)))
    }

    pub fn u64_from(&self, low: u64) -> Result<u64> {
        let number = whole(self.value).and_then(|number| u64::try_from(number).ok());
        number.filter(|number| *number >= low).ok_or_else(|| match low {
            0 => self.expected("a whole number"),
            _ => self.expected(format_args!("a whole number of at least {low}")),
        })
    }

    pub fn i32(&self) -> Result<i32> {
        let number = whole(self.value).and_then(|number| i32::try_from(number).ok());
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

/// Whether a key is in a list with commas.
pub fn is_listed(list: &str, key: &str) -> bool {
    list.split(',').any(|listed| listed.trim_start() == key)
}

/// The way to the value: `meta.bpf_skel.maps[2].name`.
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

/// Where names have their place. A JSON object, for its code is there anyway.
#[derive(Default)]
pub struct Places(Map<String, Value>);

impl Places {
    /// Remembers the place; that of before, if there was one.
    pub fn insert(&mut self, name: &str, place: usize) -> Option<usize> {
        as_place(&self.0.insert(name.to_owned(), place.into())?)
    }

    /// The place of that name.
    pub fn get(&self, name: &str) -> Option<usize> {
        as_place(self.0.get(name)?)
    }
}

fn as_place(value: &Value) -> Option<usize> {
    value.as_u64().map(|place| place as usize)
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
    parse_float(value.as_number()?.as_str())
        .filter(|number| number.fract() == 0.0 && number.abs() <= EXACT)
        .map(|number| number as i128)
}

/// A value as JSON on one line. Its `Display` has another form too, on several lines, which would be linked with it (2 kB).
pub fn compact(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A value as a message shows it: on one line, and cut where it is long.
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
