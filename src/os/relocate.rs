//! Applies the packed relocations of the shared library.
//!
//! The library's tables hold about 1,200 addresses, each of which needs a relocation of 24 bytes. A packed table (DT_RELR in the
//! gABI, "Relative Relocation Table") needs 28 kB less for them, but the dynamic linker of glibc reads it only since 2.36, and
//! the library supports 2.34. So lld writes the table under the tags that Android used before, which glibc ignores, and
//! `eunomia_relocate` applies it. `tools/build-release.sh` makes this function the library's DT_INIT. The dynamic linker calls it
//! when it has applied all other relocations, and before anything else in the library.
//!
//! Nothing here may use a table of addresses: no trait object, no `match` that becomes a table, no formatting.

use std::ops::Range;
use std::slice;

use libc::{Elf64_Ehdr, Elf64_Phdr};

/// Tags of the dynamic section (Android's bionic/libc/include/elf.h).
const DT_ANDROID_RELR: u64 = 0x6fff_e000;
const DT_ANDROID_RELRSZ: u64 = 0x6fff_e001;

/// An entry of the dynamic section (`Elf64_Dyn`).
#[repr(C)]
struct Dynamic {
    tag: u64,
    value: u64,
}

/// Defines `eunomia_relocate`, which passes the address of the first byte to `relocate` by the instructions `$jump`. The linker
/// defines `__ehdr_start`, the address at which that byte is mapped.
macro_rules! entry {
    ($($jump:literal),+) => {
        std::arch::global_asm!(
            ".pushsection .text.eunomia_relocate, \"ax\", @progbits",
            ".hidden __ehdr_start",
            ".globl eunomia_relocate",
            ".hidden eunomia_relocate",
            ".type eunomia_relocate, @function",
            "eunomia_relocate:",
            $($jump,)+
            ".size eunomia_relocate, . - eunomia_relocate",
            ".popsection",
            relocate = sym relocate,
        );
    };
}

#[cfg(target_arch = "x86_64")]
entry!("lea rdi, [rip + __ehdr_start]", "jmp {relocate}");

#[cfg(target_arch = "aarch64")]
entry!("adrp x0, __ehdr_start", "add x0, x0, :lo12:__ehdr_start", "b {relocate}");

/// Relocates the library that is mapped at `image`. The pages that are read-only after
/// relocation (RELRO) are made writable for this. Ends the process if the kernel refuses that, as the dynamic linker does.
unsafe extern "C" fn relocate(image: *mut u8) {
    // SAFETY: the linker puts the ELF header and the program headers at the start of the first mapped segment.
    let segments = unsafe {
        let header = image.cast::<Elf64_Ehdr>();
        let first = image.add((*header).e_phoff as usize).cast::<Elf64_Phdr>();
        slice::from_raw_parts(first, (*header).e_phnum as usize)
    };
    let segment = |kind: u32| segments.iter().find(|segment| segment.p_type == kind);
    let Some(dynamic) = segment(libc::PT_DYNAMIC) else { return };
    // SAFETY: PT_DYNAMIC is the mapped dynamic section, which ends with DT_NULL; it gives address and size of the table.
    let table = unsafe { packed_table(image, image.add(dynamic.p_vaddr as usize).cast()) };

    // Only the part of the thread-local data that is in the file. The zeros after it take no space in the image.
    let thread_locals = segment(libc::PT_TLS).map_or(0..0, |segment| range(segment, segment.p_filesz));
    let read_only = segment(libc::PT_GNU_RELRO).map_or(0..0, |segment| range(segment, segment.p_memsz));
    protect(image, &read_only, libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: each entry is the offset of an address in the image, or describes the 63 words after the last offset.
    unsafe { apply(image, table, &thread_locals) };
    protect(image, &read_only, libc::PROT_READ);
}

/// Returns the offsets of the first `len` bytes of a segment.
fn range(segment: &Elf64_Phdr, len: u64) -> Range<usize> {
    let start = segment.p_vaddr as usize;
    start..start + len as usize
}

/// Returns the packed relocations that the dynamic section names.
unsafe fn packed_table<'a>(image: *mut u8, mut entry: *const Dynamic) -> &'a [u64] {
    let (mut address, mut size) = (0, 0);
    // SAFETY: the caller passes a dynamic section, see `relocate`.
    unsafe {
        while (*entry).tag != 0 {
            if (*entry).tag == DT_ANDROID_RELR {
                address = (*entry).value as usize;
            }
            if (*entry).tag == DT_ANDROID_RELRSZ {
                size = (*entry).value as usize;
            }
            entry = entry.add(1);
        }
        slice::from_raw_parts(image.add(address).cast(), size / size_of::<u64>())
    }
}

/// Adds the address of `image` to each word that `table` lists. An even entry is the offset of a word. An odd entry has a bit
/// for each of the next 63 words.
unsafe fn apply(image: *mut u8, table: &[u64], thread_locals: &Range<usize>) {
    let mut next = 0;
    for &entry in table {
        let (first, mut words, count) =
            if entry & 1 == 0 { (entry as usize, 1, 1) } else { (next, entry >> 1, 63) };
        next = first + count * size_of::<u64>();
        let mut offset = first;
        while words != 0 {
            if words & 1 == 1 {
                // Threads may have copied these words before this function runs, so the words must not contain
                // addresses.
                if thread_locals.contains(&offset) {
                    // SAFETY: ends the process.
                    unsafe { libc::abort() };
                }
                // SAFETY: the linker lists aligned words of writable segments.
                unsafe { *image.add(offset).cast::<usize>() += image as usize };
            }
            words >>= 1;
            offset += size_of::<u64>();
        }
    }
}

/// Sets the access to the pages of a segment, rounded as the dynamic linker rounds them.
fn protect(image: *mut u8, offsets: &Range<usize>, access: i32) {
    let page = super::page_size() as usize;
    let start = image as usize + offsets.start;
    let (start, end) = (start & !(page - 1), (image as usize + offsets.end) & !(page - 1));
    // SAFETY: these pages of the library's own segment stay mapped; only constants are in them.
    if start < end && unsafe { libc::mprotect(start as *mut _, end - start, access) } != 0 {
        // SAFETY: ends the process.
        unsafe { libc::abort() };
    }
}
