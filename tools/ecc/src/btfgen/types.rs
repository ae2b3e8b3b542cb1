//! BTF as it lies in a file, with as little work as possible: that of a kernel has a hundred thousand types.
//!
//! Whatever does not hold together reads as nothing.

use crate::btf::{self, kind_of, record_len, word};

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const RECORD: usize = 12;
/// More levels than any type of a kernel has.
const MAX_DEPTH: usize = 64;

/// The types of a kernel or an object.
pub struct Types<'a> {
    bytes: &'a [u8],
    /// Where each type begins, by id; the first stands for void.
    starts: Vec<usize>,
    strings: &'a [u8],
}

/// A member of a struct or union.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    pub name: &'a [u8],
    pub id: u32,
    /// Its place in bits, and for bit-fields their width, as BTF has both in a word.
    pub offset: u32,
}

impl<'a> Types<'a> {
    /// Finds where each type begins; `None` if this is no BTF of this machine's byte order.
    pub fn parse(data: &'a [u8]) -> Option<Types<'a>> {
        let header_len = word(data, 4)? as usize;
        if data.get(..2)? != MAGIC.to_ne_bytes() || header_len < HEADER {
            return None;
        }
        let part = |offset, len| {
            let start = header_len.checked_add(word(data, offset)? as usize)?;
            data.get(start..start.checked_add(word(data, len)? as usize)?)
        };
        let (bytes, strings) = (part(8, 12)?, part(16, 20)?);
        let (mut starts, mut at) = (vec![bytes.len()], 0);
        while at < bytes.len() {
            starts.push(at);
            at = at.checked_add(record_len(&bytes[at..])?).filter(|end| *end <= bytes.len())?;
        }
        Some(Types { bytes, starts, strings })
    }

    /// The ids of all types.
    pub fn ids(&self) -> std::ops::Range<u32> {
        1..self.starts.len() as u32
    }

    /// The record of a type; empty for void and for ids of none.
    pub fn record(&self, id: u32) -> &'a [u8] {
        let rest = self.starts.get(id as usize).map_or(&[][..], |start| &self.bytes[*start..]);
        &rest[..record_len(rest).unwrap_or(0)]
    }

    /// The kind; 0 is void.
    pub fn kind(&self, id: u32) -> u32 {
        kind_of(self.record(id))
    }

    /// The size, or the type referred to.
    pub fn arg(&self, id: u32) -> u32 {
        word(self.record(id), 8).unwrap_or(0)
    }

    /// The name, empty if there is none.
    pub fn name(&self, id: u32) -> &'a [u8] {
        self.string(word(self.record(id), 0).unwrap_or(0))
    }

    /// The name without what tells versions of a type apart: `task_struct___old` is `task_struct`.
    pub fn essential_name(&self, id: u32) -> &'a [u8] {
        let name = self.name(id);
        let separator = |part: &[u8]| part[0] != b'_' && &part[1..4] == b"___" && part[4] != b'_';
        name.windows(5).rposition(separator).map_or(name, |at| &name[..=at])
    }

    /// A string by its place.
    pub fn string(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// What follows the record's head, in words.
    pub fn words(&self, id: u32) -> Vec<u32> {
        let rest = self.record(id).get(RECORD..).unwrap_or_default();
        rest.chunks_exact(4).filter_map(|bytes| word(bytes, 0)).collect()
    }

    /// The members of a struct or union; none for all else.
    pub fn members(&self, id: u32) -> Vec<Member<'a>> {
        if !is_composite(self.kind(id)) {
            return Vec::new();
        }
        let words = self.words(id);
        words.chunks_exact(3).map(|w| Member { name: self.string(w[0]), id: w[1], offset: w[2] }).collect()
    }

    /// The types of element and index of an array.
    pub fn array(&self, id: u32) -> Option<(u32, u32)> {
        (self.kind(id) == btf::ARRAY).then(|| self.words(id)).and_then(|w| Some((*w.first()?, *w.get(1)?)))
    }

    /// The type without typedefs and qualifiers.
    pub fn resolve(&self, mut id: u32) -> u32 {
        for _ in 0..MAX_DEPTH {
            if !is_modifier(self.kind(id)) {
                break;
            }
            id = self.arg(id);
        }
        id
    }
}

/// Has members.
pub fn is_composite(kind: u32) -> bool {
    matches!(kind, btf::STRUCT | btf::UNION)
}

/// Names or marks another type.
pub fn is_modifier(kind: u32) -> bool {
    matches!(kind, btf::TYPEDEF | btf::VOLATILE | btf::CONST | btf::RESTRICT | btf::TYPE_TAG)
}
