//! Reads executables and libraries that user-space probes attach to: file offsets of addresses, and build ids.
//!
//! Such a file is untrusted. Only its headers and short notes are read, each with a limit.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::os::{self, Errno};

/// Sizes of the ELF header and of a program header, and the maximum number of program headers.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const MAX_HEADERS: usize = 128;
/// Maximum bytes of notes, and the size of a note's header before name and description.
const MAX_NOTES: usize = 4096;
const NOTE_HEADER: usize = 12;

/// Size of a section header, and the maximum bytes of a section of notes.
const SECTION_HEADER: usize = 64;
const MAX_SEARCHED: usize = 4 << 20;

const PT_LOAD: u64 = 1;
const PT_NOTE: u64 = 4;
const PF_X: u64 = 1;
const SHT_NOTE: u64 = 7;
const NT_GNU_BUILD_ID: u64 = 3;

/// A 64-bit ELF file with this machine's byte order.
pub struct Executable {
    file: File,
    headers: Vec<u8>,
}

impl Executable {
    /// Opens a regular file and reads its program headers. ENOEXEC means that it is not such an ELF file.
    pub fn open(path: &str) -> os::Result<Executable> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let mut header = [0; HEADER];
        let is_elf = file.metadata()?.is_file()
            && fill(&file, &mut header, 0)
            && header[..6] == *b"\x7fELF\x02\x01"
            && number(&header, 54, 2) == PROGRAM_HEADER as u64;
        let count = (number(&header, 56, 2) as usize).min(MAX_HEADERS);
        let mut headers = vec![0; count * PROGRAM_HEADER];
        match is_elf && fill(&file, &mut headers, number(&header, 32, 8)) {
            true => Ok(Executable { file, headers }),
            false => Err(Errno(libc::ENOEXEC)),
        }
    }

    /// Returns the file offset of the code at an address. Addresses are those that disassemblers and symbol tables show.
    pub fn offset(&self, address: u64) -> Option<u64> {
        self.headers.chunks(PROGRAM_HEADER).find_map(|header| {
            let inside = address.checked_sub(number(header, 16, 8))?;
            let is_code = number(header, 0, 4) == PT_LOAD && number(header, 4, 4) & PF_X != 0;
            (is_code && inside < number(header, 32, 8)).then(|| number(header, 8, 8).wrapping_add(inside))
        })
    }

    /// Returns the build id in hexadecimal; empty if there is none.
    pub fn build_id(&self) -> String {
        let mut id = String::new();
        for header in self.headers.chunks(PROGRAM_HEADER).filter(|header| number(header, 0, 4) == PT_NOTE) {
            let mut notes = vec![0; (number(header, 32, 8) as usize).min(MAX_NOTES)];
            if !fill(&self.file, &mut notes, number(header, 8, 8)) {
                continue;
            }
            let mut rest = &*notes;
            while rest.len() > NOTE_HEADER {
                let [name, len] = [0, 4].map(|at| number(rest, at, 4) as usize);
                let start = NOTE_HEADER + name.next_multiple_of(4);
                let is_id =
                    number(rest, 8, 4) == NT_GNU_BUILD_ID && rest[NOTE_HEADER..].starts_with(b"GNU\0");
                if let Some(bytes) = rest.get(start..start + len).filter(|_| is_id) {
                    let digit = |digit: u8| char::from(b"0123456789abcdef"[usize::from(digit)]);
                    bytes.iter().for_each(|byte| id.extend([digit(byte >> 4), digit(byte & 15)]));
                    return id;
                }
                rest = rest.get(start + len.next_multiple_of(4)..).unwrap_or(&[]);
            }
        }
        id
    }

    /// Whether one of its notes contains these bytes. True if a section of notes is longer than the maximum.
    pub fn mentions(&self, bytes: &[u8]) -> bool {
        let mut header = [0; HEADER];
        let is_read = fill(&self.file, &mut header, 0);
        let count = (number(&header, 60, 2) as usize).min(MAX_HEADERS);
        let mut sections = vec![0; count * SECTION_HEADER];
        let is_read = is_read && fill(&self.file, &mut sections, number(&header, 40, 8));
        let mut notes = sections.chunks(SECTION_HEADER).filter(|section| number(section, 4, 4) == SHT_NOTE);
        is_read
            && notes.any(|section| {
                let len = number(section, 32, 8) as usize;
                let mut found = vec![0; len.min(MAX_SEARCHED)];
                fill(&self.file, &mut found, number(section, 24, 8))
                    && (len > MAX_SEARCHED || os::find(&found, bytes).is_some())
            })
    }
}

/// Returns the file with that build id in a directory such as `/proc/PID/map_files`, which has the files that a process has
/// mapped.
pub fn mapped(directory: &str, build_id: &str) -> Option<String> {
    let mut paths = os::directory_names(directory).into_iter().map(|name| format!("{directory}/{name}"));
    paths.find(|path| Executable::open(path).is_ok_and(|file| file.build_id() == build_id))
}

/// Reads bytes at an offset. Returns whether the file has that many.
fn fill(file: &File, into: &mut [u8], at: u64) -> bool {
    file.read_at(into, at).is_ok_and(|read| read == into.len())
}

/// Reads a little-endian number of `len` bytes, which the caller has checked to exist.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
