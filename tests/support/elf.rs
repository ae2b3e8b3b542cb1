//! Changes objects: the contents of a section, a field of the header, a type of the BTF.

/// The header of a section in a 64-bit little-endian ELF file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Offset of the header itself.
    header: usize,
    /// Offset of the contents.
    pub offset: usize,
    /// Length of the contents.
    pub len: usize,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> usize {
    let mut word = [0; 8];
    word[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(word) as usize
}

/// Finds a section by name.
pub fn section(elf: &[u8], name: &str) -> Section {
    let (table, count, names) = (number::<8>(elf, 40), number::<2>(elf, 60), number::<2>(elf, 62));
    let read = |index: usize| {
        let header = table + 64 * index;
        Section { header, offset: number::<8>(elf, header + 24), len: number::<8>(elf, header + 32) }
    };
    let names = read(names);
    let name_of = |section: &Section| {
        let text = &elf[names.offset + number::<4>(elf, section.header)..];
        &text[..text.iter().position(|byte| *byte == 0).expect("names end in NUL")]
    };
    let found = (0..count).map(read).find(|section| name_of(section) == name.as_bytes());
    found.unwrap_or_else(|| panic!("no section {name}"))
}

/// The contents of a section.
pub fn content<'a>(elf: &'a [u8], name: &str) -> &'a [u8] {
    let Section { offset, len, .. } = section(elf, name);
    &elf[offset..offset + len]
}

/// Replaces the contents of a section, which move to the end of the file.
pub fn with_section(elf: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    let Section { header, .. } = section(elf, name);
    let mut elf = elf.to_vec();
    elf.resize(elf.len().next_multiple_of(8), 0);
    let (offset, len) = (elf.len() as u64, content.len() as u64);
    elf[header + 24..header + 32].copy_from_slice(&offset.to_le_bytes());
    elf[header + 32..header + 40].copy_from_slice(&len.to_le_bytes());
    elf.extend_from_slice(content);
    elf
}

/// Renames a section, so that it cannot be found.
pub fn without_section(elf: &[u8], name: &str) -> Vec<u8> {
    let Section { header, .. } = section(elf, name);
    let mut elf = elf.to_vec();
    elf[header..header + 4].fill(0);
    elf
}

/// Offset and kind of each type in a BTF section, beginning with id 1.
pub fn btf_types(btf: &[u8]) -> Vec<(usize, u32)> {
    let (start, len) = (number::<4>(btf, 4) + number::<4>(btf, 8), number::<4>(btf, 12));
    let mut types = Vec::new();
    let mut at = start;
    while at < start + len {
        let info = number::<4>(btf, at + 4) as u32;
        let (kind, count) = (info >> 24 & 0x1f, info as usize & 0xffff);
        types.push((at, kind));
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
    }
    types
}

/// Reads a little-endian word.
pub fn word(bytes: &[u8], at: usize) -> usize {
    number::<4>(bytes, at)
}

/// Writes a little-endian word.
pub fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}
