//! Reads the tables of a 64-bit ELF object in the byte order of this machine.

/// A section.
pub struct Section<'a> {
    pub name: &'a [u8],
    pub kind: u32,
    pub flags: u64,
    pub data: &'a [u8],
    /// The section that relocations apply to.
    pub info: u32,
    /// The string table of a symbol table.
    link: u32,
}

/// A symbol.
#[derive(Clone, Copy)]
pub struct Symbol<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub binding: u8,
    pub section: u16,
    pub value: u64,
    pub size: u64,
}

/// A relocation without an addend. libbpf reads no other kind.
pub struct Relocation {
    /// The offset in the section, in bytes.
    pub at: u64,
    /// The index of its symbol.
    pub symbol: u32,
}

pub const PROGBITS: u32 = 1;
pub const SYMTAB: u32 = 2;
pub const REL: u32 = 9;
const STRTAB: u32 = 3;
const ADDRESSES: u32 = 0x6fff_4c03;
pub const EXECUTABLE: u64 = 4;

pub const NO_TYPE: u8 = 0;
pub const FUNCTION: u8 = 2;
pub const LOCAL: u8 = 0;

/// Length limit of a name. Otherwise many symbols could share a name as long as the file.
const MAX_NAME: usize = 4096;
const NO_BITS: u32 = 8;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 16;

impl Section<'_> {
    /// Whether libbpf ignores it (`ignore_elf_section` in libbpf.c) or identifies it by its name.
    pub fn is_skipped(&self) -> bool {
        const BY_NAME: [&[u8]; 6] = [b"license", b"version", b"maps", b".maps", b".BTF", b".BTF.ext"];
        let is_debugging = |name: &[u8]| name.starts_with(b".debug_");
        let is_for_skipped = |of: &[u8]| is_debugging(of) || of == b".BTF" || of == b".BTF.ext";
        matches!(self.kind, STRTAB | ADDRESSES)
            || is_debugging(self.name)
            || self.name.strip_prefix(b".rel").is_some_and(is_for_skipped)
            || BY_NAME.contains(&self.name)
    }
}

/// The sections; `None` if the file is malformed.
pub fn sections(elf: &[u8]) -> Option<Vec<Section<'_>>> {
    let start = usize::try_from(u64_at(elf, 40)?).ok()?;
    let (size, count, names) = (u16_at(elf, 58)?, u16_at(elf, 60)?, u16_at(elf, 62)?);
    let headers = elf.get(start..)?.get(..usize::from(count) * SECTION)?;
    if usize::from(size) != SECTION {
        return None;
    }
    let strings = content(elf, headers.chunks_exact(SECTION).nth(names.into())?)?;
    let section = |header| {
        let (kind, name) = (u32_at(header, 4)?, u32_at(header, 0)?);
        let data = if kind == NO_BITS { Some(&[][..]) } else { content(elf, header) };
        let (flags, link, info) = (u64_at(header, 8)?, u32_at(header, 40)?, u32_at(header, 44)?);
        Some(Section { name: string(strings, name)?, kind, flags, data: data?, info, link })
    };
    headers.chunks_exact(SECTION).map(section).collect()
}

/// The symbols; `None` if there is not exactly one symbol table or it is malformed.
pub fn symbols<'a>(sections: &[Section<'a>]) -> Option<Vec<Symbol<'a>>> {
    let mut tables = sections.iter().filter(|section| section.kind == SYMTAB);
    let table = tables.next().filter(|_| tables.next().is_none())?;
    let strings = sections.get(table.link as usize)?.data;
    let symbol = |symbol: &'a [u8]| {
        let name = string(strings, u32_at(symbol, 0)?)?;
        let (kind, binding) = (symbol[4] & 15, symbol[4] >> 4);
        let (section, value, size) = (u16_at(symbol, 6)?, u64_at(symbol, 8)?, u64_at(symbol, 16)?);
        Some(Symbol { name, kind, binding, section, value, size })
    };
    table.data.chunks_exact(SYMBOL).map(symbol).collect()
}

/// The size of the object at the beginning of `data`: up to the end of its section table and sections.
pub fn len(data: &[u8]) -> Option<usize> {
    let (table, count) = (usize::try_from(u64_at(data, 40)?).ok()?, usize::from(u16_at(data, 60)?));
    let headers = data.get(table..)?.get(..count * SECTION)?;
    let mut end = table + headers.len();
    for header in headers.chunks_exact(SECTION).filter(|header| u32_at(header, 4) != Some(NO_BITS)) {
        let (offset, len) =
            (usize::try_from(u64_at(header, 24)?).ok()?, usize::try_from(u64_at(header, 32)?).ok()?);
        end = end.max(offset.checked_add(len)?);
    }
    (end <= data.len()).then_some(end)
}

/// The relocations in a section.
pub fn relocations(section: &Section<'_>) -> Vec<Relocation> {
    let relocation = |relocation| {
        Some(Relocation { at: u64_at(relocation, 0)?, symbol: (u64_at(relocation, 8)? >> 32) as u32 })
    };
    section.data.chunks_exact(RELOCATION).filter_map(relocation).collect()
}

fn content<'a>(elf: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let (offset, len) =
        (usize::try_from(u64_at(header, 24)?).ok()?, usize::try_from(u64_at(header, 32)?).ok()?);
    if u32_at(header, 4)? == NO_BITS { Some(&[]) } else { elf.get(offset..offset.checked_add(len)?) }
}

fn string(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(at as usize..)?;
    let rest = &rest[..rest.len().min(MAX_NAME + 1)];
    Some(&rest[..rest.iter().position(|byte| *byte == 0)?])
}

fn bytes_at<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at + N)?.try_into().ok()
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    bytes_at(data, at).map(u16::from_ne_bytes)
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    bytes_at(data, at).map(u32::from_ne_bytes)
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    bytes_at(data, at).map(u64::from_ne_bytes)
}
