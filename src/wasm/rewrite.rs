//! Changes a module before it is loaded, so that no code runs while WAMR makes an instance of it.
//!
//! WAMR runs start functions and constructors while it makes an instance, and nothing could end one that loops. Each of
//! them becomes an export with a name of our own, which is called like any other function. WAMR checks the rest.

use super::limits::MAX_ELEMENTS;
use crate::error::{Error, Result, Status};

/// The export that a start function becomes. Compilers do not create such names.
pub const START: &str = "?eunomia start";

/// Exports that WAMR calls itself, and their new names, which have the same length.
const HOOKS: [(&str, &str); 2] =
    [("__post_instantiate", "?_post_instantiate"), ("__wasm_call_ctors", "?_wasm_call_ctors")];

/// The functions to call before main, in this order, if the module exports them.
pub const FIRST: [&str; 4] = [START, "?_wasm_call_ctors", "_initialize", "?_post_instantiate"];

const HEADER: &[u8] = b"\0asm\x01\0\0\0";

mod section {
    pub const TABLE: u8 = 4;
    pub const MEMORY: u8 = 5;
    pub const EXPORT: u8 = 7;
    pub const START: u8 = 8;
}

/// A module ready to be loaded.
pub struct Prepared {
    /// The changed module.
    pub bytes: Vec<u8>,
    /// Initial size of its memory in pages.
    pub pages: u32,
}

/// Changes a module.
pub fn prepare(module: &[u8]) -> Result<Prepared> {
    let body = module.strip_prefix(HEADER).ok_or_else(|| {
        Error::new(Status::Package, "module: it does not begin with the header of WASM version 1")
    })?;
    let damaged = || Error::new(Status::Package, "module: truncated or damaged");
    let elements = elements(body).ok_or_else(damaged)?;
    if elements > MAX_ELEMENTS {
        let text =
            format!("module: its tables have {elements} initial elements; the limit is {MAX_ELEMENTS}");
        return Err(Error::new(Status::Package, text));
    }
    rewrite(body).ok_or_else(damaged)
}

/// Returns the sum of the initial sizes of all tables. WAMR limits the maximum size of a table to twice
/// its initial size.
fn elements(body: &[u8]) -> Option<u64> {
    let mut elements = 0;
    for (_, content) in sections(body)?.into_iter().filter(|(id, _)| *id == section::TABLE) {
        let mut reader = Reader(content);
        for _ in 0..reader.number()? {
            reader.byte()?;
            let has_maximum = reader.byte()? & 1 == 1;
            elements += u64::from(reader.number()?);
            if has_maximum {
                reader.number()?;
            }
        }
    }
    Some(elements)
}

fn rewrite(body: &[u8]) -> Option<Prepared> {
    let sections = sections(body)?;
    let start = match sections.iter().find(|(id, _)| *id == section::START) {
        Some((_, content)) => Some(Reader(content).number()?),
        None => None,
    };
    let (mut bytes, mut pages) = (HEADER.to_vec(), 0);
    for (id, content) in sections {
        match id {
            section::START => {}
            section::EXPORT => push_section(&mut bytes, id, &exports(content, start)?),
            _ => {
                if id == section::MEMORY {
                    pages = first_memory(content)?;
                }
                push_section(&mut bytes, id, content);
            }
        }
    }
    Some(Prepared { bytes, pages })
}

/// Returns the id and the content of each section.
fn sections(body: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut reader = Reader(body);
    let mut sections = Vec::new();
    while !reader.0.is_empty() {
        let id = reader.byte()?;
        let len = reader.number()?;
        sections.push((id, reader.take(len as usize)?));
    }
    Some(sections)
}

/// Returns the export section with the hooks renamed and the start function added.
fn exports(content: &[u8], start: Option<u32>) -> Option<Vec<u8>> {
    let mut reader = Reader(content);
    let count = reader.number()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let len = reader.number()?;
        let name = reader.take(len as usize)?;
        let hook = HOOKS.iter().find(|(hook, _)| hook.as_bytes() == name);
        push_number(&mut entries, len);
        entries.extend_from_slice(hook.map_or(name, |(_, ours)| ours.as_bytes()));
        entries.push(reader.byte()?);
        push_number(&mut entries, reader.number()?);
    }
    let mut section = Vec::new();
    push_number(&mut section, count.checked_add(u32::from(start.is_some()))?);
    section.extend_from_slice(&entries);
    if let Some(function) = start {
        push_number(&mut section, START.len() as u32);
        section.extend_from_slice(START.as_bytes());
        section.push(0);
        push_number(&mut section, function);
    }
    // Extra bytes after the entries are kept, so that WAMR refuses them.
    section.extend_from_slice(reader.0);
    Some(section)
}

/// Returns the initial size of the first memory in pages.
fn first_memory(content: &[u8]) -> Option<u32> {
    let mut reader = Reader(content);
    if reader.number()? == 0 {
        return Some(0);
    }
    reader.byte()?;
    reader.number()
}

fn push_section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    push_number(bytes, content.len() as u32);
    bytes.extend_from_slice(content);
}

/// Appends a number in LEB128.
fn push_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a part of the module.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a 32-bit number in LEB128, at most five bytes.
    fn number(&mut self) -> Option<u32> {
        let mut number = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(number).ok();
            }
        }
        None
    }
}
