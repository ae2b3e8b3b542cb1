//! Bounds-checked reader of the CO-RE relocations in a `.BTF.ext` section.

use super::reader::word_at;

/// A CO-RE relocation: an instruction that depends on how the running kernel defines a type.
pub struct Relocation {
    /// Its section, as an offset in the strings of the BTF.
    pub section: u32,
    /// The offset of the instruction in its section, in bytes.
    pub offset: u32,
    /// The type in the object.
    pub type_id: u32,
    /// The access string, as an offset in the strings of the BTF: indices of members and elements, such as `0:2:1`.
    pub access: u32,
    /// The kind, a value of `enum bpf_core_relo_kind` of linux/bpf.h.
    pub kind: u32,
}

/// The fact that a relocation depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Query {
    /// The offset, size or existence of a member.
    Member,
    /// The id of the type in the object.
    LocalId,
    /// The id of the type in the kernel.
    KernelId,
    /// The size or existence of a type.
    Type,
    /// The value or existence of an enum constant.
    Constant,
    /// Whether a type and all of its members match.
    Match,
}

impl Relocation {
    /// Returns which part of the kernel's types the value depends on.
    pub fn query(&self) -> Query {
        match self.kind {
            0..=5 => Query::Member,
            6 => Query::LocalId,
            7 => Query::KernelId,
            10 | 11 => Query::Constant,
            12 => Query::Match,
            _ => Query::Type,
        }
    }
}

/// Returns all relocations; `None` if the section is malformed.
pub fn relocations(ext: &[u8]) -> Option<Vec<Relocation>> {
    const MAGIC_AND_VERSION: [u8; 3] = [0x9f, 0xeb, 1];
    const HEADER_WITH_RELOCATIONS: usize = 32;
    if ext.get(..3)? != MAGIC_AND_VERSION {
        return None;
    }
    let header_len = word_at(ext, 4)? as usize;
    if header_len < HEADER_WITH_RELOCATIONS {
        return Some(Vec::new());
    }
    let start = header_len.checked_add(word_at(ext, 24)? as usize)?;
    let section = ext.get(start..start.checked_add(word_at(ext, 28)? as usize)?)?;
    let mut found = Vec::new();
    if section.is_empty() {
        return Some(found);
    }
    let record_size = word_at(section, 0)? as usize;
    if record_size < 16 {
        return None;
    }
    let mut at = 4;
    while at < section.len() {
        let (name, count) = (word_at(section, at)?, word_at(section, at + 4)? as usize);
        at += 8;
        let records = section.get(at..at.checked_add(count.checked_mul(record_size)?)?)?;
        found.extend(records.chunks_exact(record_size).filter_map(|record| relocation(name, record)));
        at += records.len();
    }
    Some(found)
}

fn relocation(section: u32, record: &[u8]) -> Option<Relocation> {
    let word = |index: usize| word_at(record, 4 * index);
    Some(Relocation { section, offset: word(0)?, type_id: word(1)?, access: word(2)?, kind: word(3)? })
}
