//! Sections and functions of an ELF object: libbpf keeps `.BTF.ext` to itself, and follows a `.BTF`, and instructions,
//! before anyone checked them.

/// Length of a section header in a 64-bit ELF file.
const HEADER: usize = 64;
/// Length of a symbol.
const SYMBOL: usize = 24;

/// The contents of the sections called `name` of a 64-bit ELF file in this machine's byte order; `None` if the file is
/// malformed. There should be one at most, but nobody sees to it.
pub fn sections<'a>(elf: &'a [u8], name: &str) -> Option<Vec<&'a [u8]>> {
    let mut found = Vec::new();
    for (header, own) in headers(elf)?.chunks_exact(HEADER).zip(names(elf)?) {
        if own == name.as_bytes() {
            found.push(content(elf, header)?);
        }
    }
    Some(found)
}

/// The name of each section; `None` if the file is malformed.
pub fn names(elf: &[u8]) -> Option<Vec<&[u8]>> {
    let headers = headers(elf)?;
    let strings = content(elf, header(headers, u16_at(elf, 62)?)?)?;
    let name = |header| {
        let rest = strings.get(u32_at(header, 0)? as usize..)?;
        rest.get(..rest.iter().position(|&byte| byte == 0)?)
    };
    headers.chunks_exact(HEADER).map(name).collect()
}

/// The code of each function that lies in its section; `None` if the file is malformed.
pub fn functions(elf: &[u8]) -> Option<Vec<&[u8]>> {
    const SYMTAB: u32 = 2;
    const FUNC: u8 = 2;
    let headers = headers(elf)?;
    let code = |symbol: &[u8]| {
        let section = content(elf, header(headers, u16_at(symbol, 6)?)?)?;
        let (start, len) = (usize_at(symbol, 8)?, usize_at(symbol, 16)?);
        section.get(start..start.checked_add(len)?)
    };
    let mut found = Vec::new();
    for table in headers.chunks_exact(HEADER).filter(|header| u32_at(header, 4) == Some(SYMTAB)) {
        let functions = content(elf, table)?.chunks_exact(SYMBOL).filter(|symbol| symbol[4] & 15 == FUNC);
        found.extend(functions.filter_map(code));
    }
    Some(found)
}

/// Makes the external symbols with these names weak: libbpf then leaves out what is not there, and the kernel refuses the
/// programs that use it.
pub fn weaken(elf: &mut [u8], is_meant: &dyn Fn(&str) -> bool) {
    const WEAK: u8 = 2;
    for at in strong_externs(elf, is_meant).unwrap_or_default() {
        elf[at] = WEAK << 4 | elf[at] & 15;
    }
}

/// Where the byte is in each of those symbols that says how it binds.
fn strong_externs(elf: &[u8], is_meant: &dyn Fn(&str) -> bool) -> Option<Vec<usize>> {
    const SYMTAB: u32 = 2;
    const GLOBAL: u8 = 1;
    let (headers, mut found) = (headers(elf)?, Vec::new());
    for table in headers.chunks_exact(HEADER).filter(|header| u32_at(header, 4) == Some(SYMTAB)) {
        let (start, strings) =
            (usize_at(table, 24)?, content(elf, header(headers, u32_at(table, 40)? as u16)?)?);
        for (index, symbol) in content(elf, table)?.chunks_exact(SYMBOL).enumerate() {
            let is_extern = u16_at(symbol, 6) == Some(0) && symbol[4] >> 4 == GLOBAL;
            let name = strings.get(u32_at(symbol, 0)? as usize..)?.split(|&byte| byte == 0).next()?;
            if is_extern && std::str::from_utf8(name).is_ok_and(is_meant) {
                found.push(start + index * SYMBOL + 4);
            }
        }
    }
    Some(found)
}

/// How many steps libbpf takes that are products of counts, at most: for each relocation it goes through the maps and
/// the external symbols, for each variable and each section through the symbols or the sections, for each external symbol
/// and each section through the `types`. `variables` are those of all sections in the BTF, maps included; `None` if the file
/// is malformed.
pub fn steps(elf: &[u8], types: usize, variables: usize) -> Option<usize> {
    const SYMTAB: u32 = 2;
    const REL: u32 = 9;
    const RELOCATION: usize = 16;
    let headers = headers(elf)?.chunks_exact(HEADER);
    let (mut places, mut things) = (headers.len(), headers.len() + variables);
    for header in headers {
        match u32_at(header, 4)? {
            SYMTAB => {
                for symbol in content(elf, header)?.chunks_exact(SYMBOL) {
                    places += 1;
                    things += usize::from(u16_at(symbol, 6)? == 0);
                }
            }
            REL => places += content(elf, header)?.len() / RELOCATION,
            _ => {}
        }
    }
    Some((places + types) * things)
}

fn headers(elf: &[u8]) -> Option<&[u8]> {
    let table = usize_at(elf, 40)?;
    let (entry_len, count) = (usize::from(u16_at(elf, 58)?), usize::from(u16_at(elf, 60)?));
    elf.get(table..)?.get(..count * HEADER).filter(|_| entry_len == HEADER)
}

fn header(headers: &[u8], index: u16) -> Option<&[u8]> {
    headers.get(usize::from(index) * HEADER..)?.get(..HEADER)
}

fn content<'a>(elf: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let (offset, len) = (usize_at(header, 24)?, usize_at(header, 32)?);
    elf.get(offset..offset.checked_add(len)?)
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

/// An address or length of 64 bits.
fn usize_at(data: &[u8], at: usize) -> Option<usize> {
    bytes_at(data, at).map(u64::from_ne_bytes)?.try_into().ok()
}
