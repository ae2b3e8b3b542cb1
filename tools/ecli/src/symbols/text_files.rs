//! Parses text files: the mappings of a process, the kernel's functions, and perf maps.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use super::protocol::{Backing, Mapping, Name};

/// Size limit for the mappings of a process: the kernel allows 65530 of them.
const MAX_MAPS: u64 = 64 << 20;
/// Size limits of a perf map and of a line in any of these files.
const MAX_PERF_MAP: u64 = 64 << 20;
const MAX_LINE: u64 = 32 << 10;

/// Calls `each` with the lines in the first `most` bytes of a file. Lines that are too long are skipped.
fn lines(file: impl Read, most: u64, mut each: impl FnMut(&str)) {
    let mut file = BufReader::new(file.take(most));
    let mut line = Vec::new();
    let mut is_rest = false;
    loop {
        line.clear();
        match (&mut file).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let is_whole = line.last() == Some(&b'\n');
        if is_whole && !is_rest {
            each(&String::from_utf8_lossy(&line[..line.len() - 1]));
        }
        is_rest = !is_whole;
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

// ---- maps -----------------------------------------------------------------------------------------------------

/// Returns the mapping of each address, in order.
pub fn mappings(maps: File, addresses: &[u64]) -> Vec<Option<Mapping>> {
    let mut mappings: Vec<Option<Mapping>> = addresses.iter().map(|_| None).collect();
    lines(maps, MAX_MAPS, |line| {
        let Some((start, end, rest)) = range(line) else { return };
        for (address, found) in addresses.iter().zip(&mut mappings) {
            if (start..end).contains(address) {
                *found = mapping(rest, start, end, *address);
            }
        }
    });
    mappings
}

fn range(line: &str) -> Option<(u64, u64, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    Some((hex(start)?, hex(end)?, rest))
}

/// `r-xp 00001000 08:02 1234   /usr/bin/true`
fn mapping(line: &str, start: u64, end: u64, address: u64) -> Option<Mapping> {
    let mut parts = line.splitn(5, ' ');
    let (_, offset, _, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let path = parts.next().unwrap_or_default().trim_start();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path).replace("\\012", "\n");
    let backing = match &*path {
        // JIT compilers that map code twice, for writing and for running, use such a file.
        path if path.starts_with("/memfd:") => Backing::Anonymous,
        path if path.starts_with('/') => Backing::File,
        "[vdso]" => Backing::Vdso,
        "[vsyscall]" | "[uprobes]" => return None,
        _ => Backing::Anonymous,
    };
    let offset = hex(offset)?.checked_add(address - start)?;
    Some(Mapping { backing, start, end, offset, path })
}

// ---- functions ------------------------------------------------------------------------------------------------

/// Functions by address. Their names are stored in one string.
#[derive(Default)]
struct Functions {
    names: String,
    all: Vec<Function>,
}

struct Function {
    address: u64,
    /// `None`: up to the next.
    size: Option<u64>,
    name: (u32, u32),
}

impl Functions {
    fn add(&mut self, address: u64, size: Option<u64>, name: &str) {
        let start = self.names.len();
        self.names.push_str(name);
        let (Ok(start), Ok(len)) = (u32::try_from(start), u32::try_from(name.len())) else { return };
        self.all.push(Function { address, size, name: (start, len) });
    }

    fn sort(&mut self) {
        // The last entry of an address is the current one: code can be recompiled.
        self.all.sort_by_key(|function| function.address);
    }

    fn name(&self, address: u64) -> Option<Name> {
        let end = self.all.partition_point(|function| function.address <= address);
        let function = self.all[..end].last()?;
        let offset = address - function.address;
        if function.size.is_some_and(|size| offset >= size.max(1)) {
            return None;
        }
        let (start, len) = (function.name.0 as usize, function.name.1 as usize);
        Some(Name { text: self.names.get(start..start + len)?.to_owned(), offset })
    }
}

/// The kernel's functions, from /proc/kallsyms.
pub struct Kallsyms(Functions);

impl Kallsyms {
    /// Reads the file. If the kernel hides its addresses, there are no functions.
    pub fn read(file: File) -> Kallsyms {
        let mut functions = Functions::default();
        lines(file, u64::MAX, |line| {
            let mut parts = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
                return;
            };
            let address =
                hex(address).filter(|address| *address != 0 && matches!(kind, "t" | "T" | "w" | "W"));
            if let Some(address) = address {
                functions.add(address, None, name);
            }
        });
        functions.sort();
        Kallsyms(functions)
    }

    /// The function at an address.
    pub fn name(&self, address: u64) -> Option<Name> {
        self.0.name(address)
    }
}

/// Functions that a process has compiled: lines of `START SIZE NAME`.
pub struct PerfMap(Functions);

impl PerfMap {
    /// Reads the file. Other lines are skipped.
    pub fn read(file: File) -> PerfMap {
        let mut functions = Functions::default();
        lines(file, MAX_PERF_MAP, |line| {
            let mut parts = line.splitn(3, ' ');
            let (start, size) = (parts.next().and_then(hex), parts.next().and_then(hex));
            if let (Some(start), Some(size), Some(name)) = (start, size, parts.next()) {
                functions.add(start, Some(size), name);
            }
        });
        functions.sort();
        PerfMap(functions)
    }

    /// The function at an address.
    pub fn name(&self, address: u64) -> Option<Name> {
        self.0.name(address)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text).and_then(|()| file.rewind()).expect("text");
        file
    }

    fn shown(name: Option<Name>) -> String {
        name.map_or("none".into(), |name| format!("{}+{}", name.text, name.offset))
    }

    #[test]
    fn addresses_are_found_in_mappings() {
        let maps = b"1000-2000 r-xp 00005000 08:02 7          /usr/lib/a b.so (deleted)\n\
            3000-4000 rwxp 00000000 00:00 0\n4000-5000 r-xp 00000000 00:00 0    [vdso]\n\
            5000-6000 r-xp 00001000 00:01 9 /memfd:code (deleted)\n6000-7000 r-xp 00000000 00:00 0 [anon:jit]\n\
            nonsense\n7000-8000\n9000-a000 r-xp\n";
        let found = mappings(file(maps), &[0x1010, 0x2000, 0x3000, 0x4fff, 0x5001, 0x6000, 0x7000, 0x9000]);
        let found: Vec<_> = found
            .iter()
            .map(|mapping| mapping.as_ref().map(|it| (it.backing, it.offset, it.path.as_str())))
            .collect();
        assert_eq!(
            found,
            [
                Some((Backing::File, 0x5010, "/usr/lib/a b.so")),
                None,
                Some((Backing::Anonymous, 0, "")),
                Some((Backing::Vdso, 0xfff, "[vdso]")),
                Some((Backing::Anonymous, 0x1001, "/memfd:code")),
                Some((Backing::Anonymous, 0, "[anon:jit]")),
                None,
                None
            ]
        );
    }

    #[test]
    fn a_perf_map_names_compiled_functions() {
        let map = PerfMap::read(file(
            b"1000 10 void f(int, char)\n1010 0 empty\nnonsense\n\n10 \n2000 10 old\n2000 20 new\n\xff\xfe\n0x3000 0x8 hex\n4000 4 no end",
        ));
        for (address, name) in [
            (0xfff, "none"),
            (0x1000, "void f(int, char)+0"),
            (0x100f, "void f(int, char)+15"),
            (0x1010, "empty+0"),
            (0x1011, "none"),
            (0x2011, "new+17"),
            (0x3007, "hex+7"),
            (0x3008, "none"),
            (u64::MAX, "none"),
        ] {
            assert_eq!(shown(map.name(address)), name, "{address:#x}");
        }
    }

    #[test]
    fn a_kernel_function_ends_at_the_next() {
        let kernel = Kallsyms::read(file(
            b"ffffffff81000000 T first\nffffffff81000010 D data\nffffffff81000020 t second\t[module]\n0 T hidden\n",
        ));
        assert_eq!(shown(kernel.name(0xffff_ffff_8100_001f)), "first+31");
        assert_eq!(shown(kernel.name(0xffff_ffff_8100_0020)), "second+0");
        assert_eq!(shown(kernel.name(0xffff_ffff_80ff_ffff)), "none");
    }

    #[test]
    fn long_lines_and_large_files_are_bounded() {
        let mut text = vec![b'a'; 3 * MAX_LINE as usize];
        text.extend_from_slice(b"\n1000 10 f\n");
        assert_eq!(shown(PerfMap::read(file(&text)).name(0x1000)), "f+0");
        let sparse = tempfile::tempfile().expect("a file");
        sparse.set_len(1 << 30).expect("a large file");
        assert_eq!(shown(PerfMap::read(sparse).name(0)), "none");
    }
}
