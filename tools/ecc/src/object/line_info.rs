//! Renames source files in the line information of an object. clang writes the names as they appear on its command line and
//! reads the sources through them. In the object they are only for human readers (verifier log, debuggers).
//!
//! Documentation/bpf/btf.rst in the kernel's sources describes the format.

use std::collections::HashSet;

use crate::object::btf::{self, Btf, kind_of, word};

/// Words of the header of `.BTF.ext`: offset (after the header) and length of each part.
const FUNC_INFO: usize = 8;
const LINE_INFO: usize = 16;
const RELOCATIONS: usize = 24;
/// Offsets of strings in a record of line information.
const FILE: usize = 4;
const LINE: usize = 8;
/// Offset of the string in a relocation.
const ACCESS: usize = 8;

/// Returns the sections `.BTF` and `.BTF.ext`, in which each source file has the new name that `new_name` returns for it,
/// if any. Returns `None` if `.BTF.ext` is malformed.
pub fn rename_files(
    btf: &Btf,
    ext: &[u8],
    new_name: &dyn Fn(&str) -> Option<String>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let (types, strings) = btf.parts();
    if ext.is_empty() {
        return Some((btf.to_bytes(), Vec::new()));
    }
    let files: HashSet<u32> =
        records(ext, LINE_INFO)?.iter().map(|at| word(ext, at + FILE)).collect::<Option<_>>()?;
    let strings =
        Strings::new(strings, |offset, name| files.contains(&offset).then(|| new_name(name)).flatten());

    let mut new_types = Vec::new();
    for record in types {
        let start = new_types.len();
        new_types.extend_from_slice(record);
        string_references(record).for_each(|at| strings.patch(&mut new_types, start + at));
    }
    let mut new_ext = ext.to_vec();
    for (part, offsets) in [(FUNC_INFO, &[][..]), (LINE_INFO, &[FILE, LINE]), (RELOCATIONS, &[ACCESS])] {
        sections(ext, part)?.iter().for_each(|at| strings.patch(&mut new_ext, *at));
        for record in records(ext, part)? {
            offsets.iter().for_each(|offset| strings.patch(&mut new_ext, record + offset));
        }
    }
    Some((Btf::section(&new_types, &strings.bytes), new_ext))
}

/// The offsets of string references in the record of a type: its own name, and those of members or values.
fn string_references(record: &[u8]) -> impl Iterator<Item = usize> {
    const HEADER: usize = 12;
    let each = match kind_of(record) {
        btf::STRUCT | btf::UNION | btf::ENUM64 => 12,
        btf::ENUM | btf::FUNC_PROTO => 8,
        _ => usize::MAX,
    };
    let own = (!record.is_empty()).then_some(0);
    own.into_iter().chain((HEADER..record.len()).step_by(each).filter(move |_| each != usize::MAX))
}

/// Strings, some of which were replaced.
struct Strings {
    bytes: Vec<u8>,
    /// The old and new offset of each string.
    offsets: Vec<(u32, u32)>,
}

impl Strings {
    fn new(old: &[u8], new_text: impl Fn(u32, &str) -> Option<String>) -> Strings {
        let (mut bytes, mut offsets, mut start) = (Vec::new(), Vec::new(), 0);
        for string in old.split_inclusive(|&byte| byte == 0) {
            offsets.push((start, bytes.len() as u32));
            let text = String::from_utf8_lossy(string.strip_suffix(&[0]).unwrap_or(string));
            match new_text(start, &text) {
                Some(text) => bytes.extend(text.bytes().chain([0])),
                None => bytes.extend_from_slice(string),
            }
            start += string.len() as u32;
        }
        Strings { bytes, offsets }
    }

    /// Updates the string reference at `at`. It may refer to the middle of a string.
    fn patch(&self, bytes: &mut [u8], at: usize) {
        let Some(old) = word(bytes, at) else { return };
        let index = self.offsets.partition_point(|(start, _)| *start <= old);
        let Some((start, new)) = index.checked_sub(1).and_then(|index| self.offsets.get(index)) else {
            return;
        };
        bytes[at..at + 4].copy_from_slice(&(new + (old - start)).to_ne_bytes());
    }
}

/// The offsets of the sections of a part of `.BTF.ext`. Each begins with the reference to its name.
fn sections(ext: &[u8], part: usize) -> Option<Vec<usize>> {
    Some(walk(ext, part)?.0)
}

/// The offsets of the records of a part of `.BTF.ext`.
fn records(ext: &[u8], part: usize) -> Option<Vec<usize>> {
    Some(walk(ext, part)?.1)
}

/// The offsets of sections and records of a part of `.BTF.ext`.
fn walk(ext: &[u8], part: usize) -> Option<(Vec<usize>, Vec<usize>)> {
    const SECTION_HEADER: usize = 8;
    let (mut sections, mut records) = (Vec::new(), Vec::new());
    let header_len = word(ext, 4)? as usize;
    // Objects without relocations may have a shorter header.
    if header_len < part + 8 || word(ext, part + 4)? == 0 {
        return Some((sections, records));
    }
    let mut at = header_len + word(ext, part)? as usize;
    let end = at.checked_add(word(ext, part + 4)? as usize).filter(|end| *end <= ext.len())?;
    let record_len = word(ext, at)? as usize;
    at += 4;
    while at < end {
        sections.push(at);
        let count = word(ext, at + 4)? as usize;
        at += SECTION_HEADER;
        let next = at.checked_add(count.checked_mul(record_len)?).filter(|next| *next <= end)?;
        records.extend((at..next).step_by(record_len.max(1)));
        at = next;
    }
    Some((sections, records))
}
