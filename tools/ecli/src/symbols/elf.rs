//! Looks up functions of an ELF file by file offset.
//!
//! Files are read rather than mapped, so that truncation causes an error and not a signal. Names are read on demand.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use object::elf::{
    FileHeader32, FileHeader64, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, ReadCache, ReadRef};

use super::protocol::Name;

/// Size limit of a symbol table: eight million symbols.
const MAX_TABLE: u64 = 192 << 20;

/// Maximum number of bytes of a name. Mangled C++ names can be long.
const LONGEST_NAME: usize = 4096;

/// The number of functions before an address that are searched for one that contains it.
const MAX_AROUND: usize = 16;

/// The functions of a file.
pub struct Elf<F> {
    source: F,
    functions: Vec<Function>,
    segments: Vec<Segment>,
}

struct Function {
    address: u64,
    /// 0 if unknown.
    size: u64,
    /// The file offset of its name.
    name: u64,
}

struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// The content of an ELF file.
pub trait Source {
    /// A reader from the start.
    fn reader(&self) -> impl Read + Seek;
    /// Reads bytes at an offset, up to the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<usize>;
}

impl Source for std::fs::File {
    fn reader(&self) -> impl Read + Seek {
        self
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<usize> {
        FileExt::read_at(self, into, offset).ok()
    }
}

impl Source for Vec<u8> {
    fn reader(&self) -> impl Read + Seek {
        std::io::Cursor::new(self)
    }

    fn read_at(&self, offset: u64, mut into: &mut [u8]) -> Option<usize> {
        let from = self.get(usize::try_from(offset).ok()?..)?;
        let len = from.len().min(into.len());
        into = &mut into[..len];
        into.copy_from_slice(&from[..len]);
        Some(len)
    }
}

impl<F: Source> Elf<F> {
    /// Returns `None` if the file is not a valid ELF file.
    pub fn read(source: F) -> Option<Elf<F>> {
        let mut class = [0; 5];
        source.read_at(0, &mut class)?;
        let (functions, segments) = {
            let mut reader = source.reader();
            reader.seek(SeekFrom::Start(0)).ok()?;
            let data = ReadCache::new(reader);
            match class {
                [0x7f, b'E', b'L', b'F', 1] => parts::<FileHeader32<Endianness>, _>(&data)?,
                [0x7f, b'E', b'L', b'F', 2] => parts::<FileHeader64<Endianness>, _>(&data)?,
                _ => return None,
            }
        };
        Some(Elf { source, functions, segments })
    }

    /// The function at an offset in the file.
    pub fn name(&self, offset: u64) -> Option<Name> {
        let segment = self
            .segments
            .iter()
            .find(|segment| offset.checked_sub(segment.offset).is_some_and(|inside| inside < segment.size))?;
        let address = segment.address.checked_add(offset - segment.offset)?;
        let function = self.function(address)?;
        let mut bytes = [0; LONGEST_NAME];
        let len = self.source.read_at(function.name, &mut bytes)?;
        let name = bytes[..len].split(|byte| *byte == 0).next()?;
        let text = demangled(&String::from_utf8_lossy(name));
        (!text.is_empty()).then_some(Name { text, offset: address - function.address })
    }

    fn function(&self, address: u64) -> Option<&Function> {
        let end = self.functions.partition_point(|function| function.address <= address);
        let nearest = self.functions[..end].last()?.address;
        let around = self.functions[..end].iter().rev().take(MAX_AROUND);
        around.into_iter().find(|function| {
            let inside = address - function.address;
            inside < function.size || (function.size == 0 && function.address == nearest)
        })
    }
}

type Parts = (Vec<Function>, Vec<Segment>);

fn parts<H, R>(data: &ReadCache<R>) -> Option<Parts>
where
    H: FileHeader<Endian = Endianness>,
    R: Read + Seek,
{
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?.iter();
    let segments = segments.filter(|segment| segment.p_type(endian) == PT_LOAD).map(|segment| Segment {
        offset: segment.p_offset(endian).into(),
        size: segment.p_filesz(endian).into(),
        address: segment.p_vaddr(endian).into(),
    });
    let sections = header.section_headers(endian, data).ok()?;
    let mut functions = Vec::new();
    for table in sections {
        let kind = table.sh_type(endian);
        let size: u64 = table.sh_size(endian).into();
        if !matches!(kind, SHT_SYMTAB | SHT_DYNSYM) || size > MAX_TABLE {
            continue;
        }
        let names = sections.get(table.sh_link(endian) as usize)?;
        let names = (names.sh_offset(endian).into(), names.sh_size(endian).into());
        let (start, count) = (table.sh_offset(endian).into(), size as usize / size_of::<H::Sym>());
        let Ok(symbols) = data.read_slice_at::<H::Sym>(start, count) else { continue };
        functions.extend(symbols.iter().filter_map(|symbol| function(symbol, endian, names)));
    }
    // Of several symbols at an address, the one with a size is last.
    functions.sort_by_key(|function: &Function| (function.address, function.size));
    functions.dedup_by_key(|function| (function.address, function.size));
    Some((functions, segments.collect()))
}

fn function<S: Sym<Endian = Endianness>>(
    symbol: &S,
    endian: Endianness,
    names: (u64, u64),
) -> Option<Function> {
    let name = u64::from(symbol.st_name(endian));
    let is_function = matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC);
    let is_here = is_function && symbol.st_shndx(endian) != SHN_UNDEF && name < names.1;
    is_here.then(|| Function {
        address: symbol.st_value(endian).into(),
        size: symbol.st_size(endian).into(),
        name: names.0.saturating_add(name),
    })
}

/// Demangles a Rust or C++ name.
fn demangled(name: &str) -> String {
    if let Ok(name) = rustc_demangle::try_demangle(name) {
        return format!("{name:#}");
    }
    let of_cpp = || cpp_demangle::Symbol::new(name).ok()?.demangle().ok();
    if name.starts_with("_Z") { of_cpp().unwrap_or_else(|| name.to_owned()) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("a test has a file")
    }

    #[test]
    fn functions_have_their_names() {
        let elf = Elf::read(own()).expect("an ELF file");
        assert!(elf.functions.len() > 1000 && !elf.segments.is_empty());
        let named = |function: &Function| {
            let segment = elf.segments.iter().find(|segment| {
                (segment.address..segment.address + segment.size).contains(&function.address)
            })?;
            elf.name(function.address - segment.address + segment.offset + function.size / 2)
        };
        let names: Vec<String> = elf.functions.iter().filter_map(named).map(|name| name.text).collect();
        let is_there = |what: &str| names.iter().any(|name| name.contains(what));
        assert!(is_there("elf::tests::functions_have_their_names") && is_there("main"));
        assert_eq!(elf.name(0).map(|name| name.text), None, "the header is no function");
        assert!(elf.name(u64::MAX).is_none());
        assert_eq!(demangled("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangled("plain"), "plain");
    }

    #[test]
    fn corrupt_files_do_not_panic() {
        let whole = own();
        for end in [0, 4, 5, 16, 63, 64, 100, 4096, whole.len() / 2, whole.len() - 1] {
            let elf = Elf::read(whole[..end].to_vec());
            assert!(elf.is_none_or(|elf| elf.name(0x2000).is_none_or(|name| !name.text.is_empty())), "{end}");
        }
        // Sizes, offsets, counts and types of the header and of what it leads to.
        let start =
            usize::try_from(u64::from_le_bytes(whole[40..48].try_into().expect("8 bytes"))).expect("fits");
        let head: Vec<u8> = whole[..4096].to_vec();
        let sections = whole[start..].to_vec();
        for value in [0x00, 0x01, 0x7f, 0xff] {
            for at in 4..head.len().min(400) {
                let mut small = head.clone();
                small[40..48].copy_from_slice(&(head.len() as u64).to_le_bytes());
                small.extend_from_slice(&sections);
                small[at] = value;
                if let Some(elf) = Elf::read(small) {
                    let _ = (elf.name(0), elf.name(0x1000), elf.name(u64::MAX));
                }
            }
            for at in 0..sections.len() {
                let mut small = head.clone();
                small[40..48].copy_from_slice(&(head.len() as u64).to_le_bytes());
                small.extend_from_slice(&sections);
                small[head.len() + at] = value;
                if let Some(elf) = Elf::read(small) {
                    let _ = (elf.name(0), elf.name(0x1000), elf.name(u64::MAX));
                }
            }
        }
    }
}
