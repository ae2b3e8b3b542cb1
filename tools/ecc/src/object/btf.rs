//! Reads a raw `.BTF` section, and appends to it without changing existing ids.
//!
//! The bytes come from clang or from ecc, never from outside. A malformed section is refused.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const RECORD: usize = 12;
/// Deeper nesting than in any handwritten type.
const MAX_DEPTH: u32 = 64;

pub const INT: u32 = 1;
pub const PTR: u32 = 2;
pub const ARRAY: u32 = 3;
pub const STRUCT: u32 = 4;
pub const UNION: u32 = 5;
pub const ENUM: u32 = 6;
pub const FWD: u32 = 7;
pub const TYPEDEF: u32 = 8;
pub const VOLATILE: u32 = 9;
pub const CONST: u32 = 10;
pub const RESTRICT: u32 = 11;
pub const FUNC_PROTO: u32 = 13;
pub const VAR: u32 = 14;
pub const DATASEC: u32 = 15;
pub const FLOAT: u32 = 16;
pub const TYPE_TAG: u32 = 18;
pub const ENUM64: u32 = 19;

/// The flag in `info` of a type with bit-fields, a signed enum, or a forward-declared union.
pub const KIND_FLAG: u32 = 1 << 31;

/// The types and strings of an object.
pub struct Btf {
    /// The record of each type, by id. The first is empty and means void.
    types: Vec<Vec<u8>>,
    strings: Vec<u8>,
    by_record: HashMap<Vec<u8>, u32>,
    by_name: HashMap<(u32, String), u32>,
}

/// A member of a struct or union.
pub struct Member {
    pub name: String,
    pub id: u32,
}

impl Btf {
    /// Reads the section. Returns `None` if it is malformed.
    pub fn parse(data: &[u8]) -> Option<Btf> {
        let header_len = word(data, 4)? as usize;
        if data.get(..2)? != MAGIC.to_ne_bytes() || header_len < HEADER {
            return None;
        }
        let part = |offset, len| {
            let start = header_len.checked_add(word(data, offset)? as usize)?;
            data.get(start..start.checked_add(word(data, len)? as usize)?)
        };
        let (mut rest, strings) = (part(8, 12)?, part(16, 20)?);
        let mut btf = Btf {
            types: vec![Vec::new()],
            strings: strings.to_vec(),
            by_record: HashMap::new(),
            by_name: HashMap::new(),
        };
        while !rest.is_empty() {
            let (record, next) = rest.split_at_checked(record_len(rest)?)?;
            let id = btf.reserve();
            btf.fill(id, record.to_vec());
            rest = next;
        }
        Some(btf)
    }

    /// The records of all types, and all strings.
    pub fn parts(&self) -> (impl Iterator<Item = &Vec<u8>>, &[u8]) {
        (self.types.iter(), &self.strings)
    }

    /// The section as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        Btf::section(&self.types.concat(), &self.strings)
    }

    /// Builds a section from types and strings.
    pub fn section(types: &[u8], strings: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + types.len() + strings.len());
        bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        for word in [HEADER as u32, 0, types_len, types_len, strings_len] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(types);
        bytes.extend_from_slice(strings);
        bytes
    }

    /// Reserves the id of a type that is filled in later, so that others can refer to it.
    pub fn reserve(&mut self) -> u32 {
        self.types.push(Vec::new());
        self.types.len() as u32 - 1
    }

    /// Fills in a reserved type.
    pub fn fill(&mut self, id: u32, record: Vec<u8>) {
        let name = self.string(word(&record, 0).unwrap_or(0));
        let kind = kind_of(&record);
        if !name.is_empty() {
            self.by_name.entry((kind, name)).or_insert(id);
        }
        self.by_record.entry(record.clone()).or_insert(id);
        self.types[id as usize] = record;
    }

    /// Returns the id of the type with this record. Appends it if there is none.
    pub fn intern(&mut self, record: Vec<u8>) -> u32 {
        if let Some(&id) = self.by_record.get(&record) {
            return id;
        }
        let id = self.reserve();
        self.fill(id, record);
        id
    }

    /// Returns the offset of a string. Appends it if it is missing.
    pub fn intern_string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let mut start = 0;
        for string in self.strings.split_inclusive(|&byte| byte == 0) {
            if string.strip_suffix(&[0]) == Some(text.as_bytes()) {
                return start;
            }
            start += string.len() as u32;
        }
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        start
    }

    /// The type with this kind and name.
    pub fn find(&self, kind: u32, name: &str) -> Option<u32> {
        self.by_name.get(&(kind, name.to_string())).copied()
    }

    /// The kind of a type; 0 is void.
    pub fn kind(&self, id: u32) -> u32 {
        kind_of(self.record(id))
    }

    /// The name of a type; empty if it has none.
    pub fn name(&self, id: u32) -> String {
        self.string(word(self.record(id), 0).unwrap_or(0))
    }

    /// The size of a type that has one, or the id of the type it refers to.
    pub fn arg(&self, id: u32) -> u32 {
        word(self.record(id), 8).unwrap_or(0)
    }

    /// The members of a struct or union.
    pub fn members(&self, id: u32) -> Vec<Member> {
        let fields = self.record(id).get(RECORD..).unwrap_or_default().chunks_exact(12);
        fields
            .filter_map(|field| Some(Member { name: self.string(word(field, 0)?), id: word(field, 4)? }))
            .collect()
    }

    /// The size of a type; 0 if it has none.
    pub fn size(&self, id: u32) -> u32 {
        let id = self.resolve(id);
        match self.kind(id) {
            PTR => 8,
            INT | STRUCT | UNION | ENUM | FLOAT | ENUM64 => self.arg(id),
            ARRAY => {
                let count = word(self.record(id), RECORD + 8).unwrap_or(0);
                self.element(id).map_or(0, |element| self.size(element)).saturating_mul(count)
            }
            _ => 0,
        }
    }

    /// The type of an array's elements.
    pub fn element(&self, id: u32) -> Option<u32> {
        if self.kind(id) == ARRAY { word(self.record(id), 12) } else { None }
    }

    /// Gives a static variable external linkage.
    pub fn make_global(&mut self, variable: &str) {
        if let Some(id) = self.find(VAR, variable) {
            self.types[id as usize].truncate(RECORD);
            self.types[id as usize].extend_from_slice(&1u32.to_ne_bytes());
        }
    }

    /// The type without qualifiers.
    pub fn unqualified(&self, id: u32) -> u32 {
        self.skip(id, |kind| matches!(kind, VOLATILE | CONST | RESTRICT | TYPE_TAG))
    }

    /// The type without qualifiers and typedefs.
    pub fn resolve(&self, id: u32) -> u32 {
        self.skip(id, |kind| matches!(kind, TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG))
    }

    fn skip(&self, mut id: u32, skipped: impl Fn(u32) -> bool) -> u32 {
        for _ in 0..MAX_DEPTH {
            if !skipped(self.kind(id)) {
                break;
            }
            id = self.arg(id);
        }
        id
    }

    /// A type in C syntax, without qualifiers: `unsigned int`, `struct event *`, `int[2][3]`.
    pub fn type_text(&self, id: u32) -> String {
        self.text_at(id, MAX_DEPTH)
    }

    fn text_at(&self, mut id: u32, depth: u32) -> String {
        if depth == 0 {
            return "void".into();
        }
        let mut dimensions = String::new();
        loop {
            match self.kind(id) {
                VOLATILE | CONST | RESTRICT | TYPE_TAG => id = self.arg(id),
                ARRAY => {
                    let field = |at| word(self.record(id), RECORD + at).unwrap_or(0);
                    dimensions += &format!("[{}]", field(8));
                    id = field(0);
                }
                _ => break,
            }
        }
        let tagged = |keyword: &str| format!("{keyword} {}", self.name(id)).trim_end().to_string();
        let base = match self.kind(id) {
            PTR => pointer_text(&self.text_at(self.arg(id), depth - 1)),
            STRUCT => tagged("struct"),
            UNION => tagged("union"),
            ENUM | ENUM64 => tagged("enum"),
            FWD if word(self.record(id), 4).is_some_and(|info| info & KIND_FLAG != 0) => tagged("union"),
            FWD => tagged("struct"),
            FUNC_PROTO => "void ()".into(),
            INT | FLOAT | TYPEDEF => match self.name(id).as_str() {
                "_Bool" => "bool".into(),
                name => name.into(),
            },
            _ => "void".into(),
        };
        base + &dimensions
    }

    fn record(&self, id: u32) -> &[u8] {
        self.types.get(id as usize).map_or(&[], Vec::as_slice)
    }

    fn string(&self, offset: u32) -> String {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let text = rest.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

/// Builds the record of a type: `arg` is its size or the type that it refers to, `extra` the words that follow.
pub fn record(name: u32, kind: u32, count: usize, arg: u32, extra: &[u32]) -> Vec<u8> {
    let words = [name, kind << 24 | count as u32, arg];
    words.iter().chain(extra).flat_map(|word| word.to_ne_bytes()).collect()
}

fn pointer_text(target: &str) -> String {
    match target.strip_suffix(" ()") {
        Some(result) => format!("{result} (*)()"),
        None if target.ends_with('*') => format!("{target}*"),
        None => format!("{target} *"),
    }
}

/// The length of the record at the beginning of `bytes`.
pub fn record_len(bytes: &[u8]) -> Option<usize> {
    let count = (word(bytes, 4)? & 0xffff) as usize;
    Some(
        RECORD
            + match kind_of(bytes) {
                INT | VAR | 17 => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                ENUM | FUNC_PROTO => 8 * count,
                1..=19 => 0,
                _ => return None,
            },
    )
}

/// The kind of a type.
pub fn kind_of(record: &[u8]) -> u32 {
    word(record, 4).unwrap_or(0) >> 24 & 0x1f
}

/// The word at an offset.
pub fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}
