//! Reads sections and functions of an ELF object. libbpf does not expose `.BTF.ext`, and it uses `.BTF` and instructions
//! without checking them first.

/// Length of a section header in a 64-bit ELF file.
const HEADER: usize = 64;
/// Length of a symbol.
const SYMBOL: usize = 24;

/// Returns the contents of the sections named `name` of a 64-bit ELF file in this machine's byte order, or `None` if the
/// file is malformed. A valid object has at most one, but a file may have several.
pub fn sections<'a>(elf: &'a [u8], name: &str) -> Option<Vec<&'a [u8]>> {
    let mut found = Vec::new();
    for (header, own) in headers(elf)?.chunks_exact(HEADER).zip(names(elf)?) {
        if own == name.as_bytes() {
            found.push(content(elf, header)?);
        }
    }
    Some(found)
}

/// Returns the name of each section, or `None` if the file is malformed.
pub fn names(elf: &[u8]) -> Option<Vec<&[u8]>> {
    let headers = headers(elf)?;
    let strings = content(elf, header(headers, u16_at(elf, 62)?)?)?;
    let name = |header| {
        let rest = strings.get(u32_at(header, 0)? as usize..)?;
        rest.get(..rest.iter().position(|&byte| byte == 0)?)
    };
    headers.chunks_exact(HEADER).map(name).collect()
}

/// Returns the code of each function that is inside its section, or `None` if the file is malformed.
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

/// Makes the selected external symbols weak. libbpf then leaves out those that do not exist, and the kernel refuses only the
/// programs that use them.
pub fn weaken(elf: &mut [u8], is_selected: &dyn Fn(&str) -> bool) {
    const WEAK: u8 = 2;
    for at in strong_externs(elf, is_selected).unwrap_or_default() {
        elf[at] = WEAK << 4 | elf[at] & 15;
    }
}

/// Returns the offsets of the bytes that contain the binding of these symbols.
fn strong_externs(elf: &[u8], is_selected: &dyn Fn(&str) -> bool) -> Option<Vec<usize>> {
    const SYMTAB: u32 = 2;
    const GLOBAL: u8 = 1;
    let (headers, mut found) = (headers(elf)?, Vec::new());
    for table in headers.chunks_exact(HEADER).filter(|header| u32_at(header, 4) == Some(SYMTAB)) {
        let (start, strings) =
            (usize_at(table, 24)?, content(elf, header(headers, u32_at(table, 40)? as u16)?)?);
        for (index, symbol) in content(elf, table)?.chunks_exact(SYMBOL).enumerate() {
            let is_extern = u16_at(symbol, 6) == Some(0) && symbol[4] >> 4 == GLOBAL;
            let name = strings.get(u32_at(symbol, 0)? as usize..)?.split(|&byte| byte == 0).next()?;
            if is_extern && std::str::from_utf8(name).is_ok_and(is_selected) {
                found.push(start + index * SYMBOL + 4);
            }
        }
    }
    Some(found)
}

/// Returns an upper limit of the steps that libbpf takes in nested loops. For each relocation, libbpf searches the maps
/// and the external symbols. For each variable and each section, it searches the symbols or the sections. For each
/// external symbol and each section, it searches the `types`. `variables` is the number of variables in all sections of
/// the BTF, maps included. `None` if the file is malformed.
pub fn steps(elf: &[u8], types: usize, variables: usize) -> Option<usize> {
    const SYMTAB: u32 = 2;
    const REL: u32 = 9;
    const RELOCATION: usize = 16;
    let headers = headers(elf)?.chunks_exact(HEADER);
    let (mut outer, mut inner) = (headers.len(), headers.len() + variables);
    for header in headers {
        match u32_at(header, 4)? {
            SYMTAB => {
                for symbol in content(elf, header)?.chunks_exact(SYMBOL) {
                    outer += 1;
                    inner += usize::from(u16_at(symbol, 6)? == 0);
                }
            }
            REL => outer += content(elf, header)?.len() / RELOCATION,
            _ => {}
        }
    }
    Some((outer + types) * inner)
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

/// Reads an address or length of 64 bits.
fn usize_at(data: &[u8], at: usize) -> Option<usize> {
    bytes_at(data, at).map(u64::from_ne_bytes)?.try_into().ok()
}
