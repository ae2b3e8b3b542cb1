//! Sections of an ELF object by name: libbpf keeps `.BTF.ext` to itself, and follows a `.BTF` before anyone checked it.

/// Length of a section header in a 64-bit ELF file.
const HEADER: usize = 64;

/// The contents of the sections called `name` of a 64-bit ELF file in this machine's byte order; `None` if the file is
/// malformed. There should be one at most, but nobody sees to it.
pub fn sections<'a>(elf: &'a [u8], name: &str) -> Option<Vec<&'a [u8]>> {
    let table = usize::try_from(u64_at(elf, 40)?).ok()?;
    let (entry_len, count) = (usize::from(u16_at(elf, 58)?), usize::from(u16_at(elf, 60)?));
    let names = usize::from(u16_at(elf, 62)?);
    let headers = elf.get(table..)?.get(..count * HEADER).filter(|_| entry_len == HEADER)?;
    let header = |index: usize| headers.get(index * HEADER..)?.get(..HEADER);
    let strings = content(elf, header(names)?)?;
    let mut found = Vec::new();
    for header in headers.chunks_exact(HEADER) {
        let rest = strings.get(u32_at(header, 0)? as usize..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        if &rest[..end] == name.as_bytes() {
            found.push(content(elf, header)?);
        }
    }
    Some(found)
}

fn content<'a>(elf: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let (offset, len) =
        (usize::try_from(u64_at(header, 24)?).ok()?, usize::try_from(u64_at(header, 32)?).ok()?);
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

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    bytes_at(data, at).map(u64::from_ne_bytes)
}
