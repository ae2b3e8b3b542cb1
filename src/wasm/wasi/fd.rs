//! Descriptors and files. Files can only be read.

use std::fs::Metadata;
use std::io::SeekFrom;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::error::{Failure, Result, number, read, to_guest, u32_at, write, write_u32};
use super::time::wait;
use crate::os;
use crate::wasm::call::Args;
use crate::wasm::state::{State, Stream};
use crate::wasm::sys::guest::Guest;

/// Maximum number of bytes that one call reads or writes. The guest calls again for the rest, and can be stopped in
/// between.
pub const MAX_TRANSFER: u32 = 1 << 20;

/// Returns the address and length of each buffer of a scattered read or write.
fn buffers(guest: Guest<'_>, at: u64, count: u64) -> Result<Vec<(u32, u32)>> {
    const MAX_BUFFERS: u32 = 1024;
    let count = count as u32;
    if count > MAX_BUFFERS {
        return Err(Failure::Number(number::INVAL));
    }
    let list = read(guest, at as u32, 8 * count)?;
    let buffers: Vec<_> = list.chunks_exact(8).map(|entry| (u32_at(entry, 0), u32_at(entry, 4))).collect();
    let are_valid = buffers.iter().all(|&(at, len)| guest.has(at, len));
    if are_valid { Ok(buffers) } else { Err(Failure::Number(number::FAULT)) }
}

pub fn fd_write(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let stream = match args[0] as u32 {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        fd => {
            let is_open = fd == 0 || state.files.borrow().metadata(fd).is_ok();
            return Some(if is_open { number::ROFS } else { number::BADF }.into());
        }
    };
    to_guest(buffers(guest, args[1], args[2]).and_then(|buffers| {
        let mut written = 0;
        for (at, len) in buffers {
            let len = len.min(MAX_TRANSFER - written);
            state.print(stream, &read(guest, at, len)?).ok_or(Failure::End)?;
            written += len;
        }
        write_u32(guest, args[3], written as usize)
    }))
}

pub fn fd_read(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let fd = args[0] as u32;
    let fill = |bytes: &mut [u8], _| match fd {
        0 => stdin(state, bytes),
        1 | 2 => Err(Failure::Number(number::BADF)),
        _ => Ok(state.files.borrow().read(fd, bytes)?),
    };
    to_guest(read_buffers(guest, args[1], args[2], &fill).and_then(|total| write_u32(guest, args[3], total)))
}

/// `fd_pread(fd, buffers, count, offset, out)`.
pub fn fd_pread(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let fd = args[0] as u32;
    let fill = |bytes: &mut [u8], done: usize| match fd {
        0..=2 => Err(Failure::Number(number::SPIPE)),
        _ => Ok(state.files.borrow().read_at(fd, args[3].saturating_add(done as u64), bytes)?),
    };
    to_guest(read_buffers(guest, args[1], args[2], &fill).and_then(|total| write_u32(guest, args[4], total)))
}

/// A function that reads into a buffer. Its second argument is the number of bytes that have been read before. It
/// returns the number of bytes that it has read.
type Fill<'a> = dyn Fn(&mut [u8], usize) -> Result<usize> + 'a;

/// Reads into one buffer after the other. Returns how many bytes it has read.
fn read_buffers(guest: Guest<'_>, at: u64, count: u64, fill: &Fill<'_>) -> Result<usize> {
    let mut total = 0;
    for (at, len) in buffers(guest, at, count)? {
        let mut bytes = vec![0; len.min(MAX_TRANSFER - total as u32) as usize];
        let got = fill(&mut bytes, total)?;
        write(guest, at.into(), &bytes[..got])?;
        total += got;
        if got < len as usize {
            break;
        }
    }
    Ok(total)
}

/// `fd_readdir(fd, buffer, len, from, out)`: writes entries `struct { u64 next, inode; u32 len; u8 filetype; }`, 24 bytes,
/// each followed by its name. The last one is cut off at the end of the buffer. A buffer that is not full means that
/// there are no more entries.
pub fn fd_readdir(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (capacity, mut list) = ((args[2] as u32).min(MAX_TRANSFER) as usize, Vec::new());
    let read = state.files.borrow().read_dir(args[0] as u32, args[3], |entry| {
        let start = [entry.next.to_le_bytes(), entry.inode.to_le_bytes()].concat();
        let kind = match entry.kind {
            libc::DT_DIR => filetype::DIRECTORY,
            libc::DT_REG => filetype::REGULAR_FILE,
            libc::DT_LNK => filetype::SYMBOLIC_LINK,
            _ => filetype::UNKNOWN,
        };
        let end = [(entry.name.len() as u32).to_le_bytes(), [kind, 0, 0, 0]].concat();
        [&start, &end, entry.name].iter().for_each(|part| list.extend_from_slice(part));
        list.len() < capacity
    });
    list.truncate(capacity);
    to_guest(read.map_err(Failure::from).and_then(|()| {
        write(guest, args[1], &list)?;
        write_u32(guest, args[4], list.len())
    }))
}

/// Reads from the host's stdin if the guest has access to it. Without access, stdin is empty.
fn stdin(state: &State<'_>, into: &mut [u8]) -> Result<usize> {
    const STDIN: RawFd = 0;
    if !state.config.stdio || into.is_empty() {
        return Ok(0);
    }
    wait(state, &[STDIN], None)?;
    Ok(os::read(STDIN, into)?)
}

pub fn fd_close(state: &State<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    match args[0] as u32 {
        0..=2 => Some(0),
        fd => to_guest(state.files.borrow_mut().close(fd).map_err(Failure::from)),
    }
}

pub fn fd_seek(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (fd, offset) = (args[0] as u32, args[1] as i64);
    let to = match (args[2] as u32, u64::try_from(offset)) {
        (0, Ok(offset)) => SeekFrom::Start(offset),
        (1, _) => SeekFrom::Current(offset),
        (2, _) => SeekFrom::End(offset),
        _ => return Some(number::INVAL.into()),
    };
    to_guest(seek(state, fd, to).and_then(|at| write(guest, args[3], &at.to_le_bytes())))
}

pub fn fd_tell(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let at = seek(state, args[0] as u32, SeekFrom::Current(0));
    to_guest(at.and_then(|at| write(guest, args[1], &at.to_le_bytes())))
}

fn seek(state: &State<'_>, fd: u32, to: SeekFrom) -> Result<u64> {
    match fd {
        0..=2 => Err(Failure::Number(number::SPIPE)),
        _ => Ok(state.files.borrow().seek(fd, to)?),
    }
}

/// Kinds of files as WASI numbers them.
mod filetype {
    pub const UNKNOWN: u8 = 0;
    pub const CHARACTER_DEVICE: u8 = 2;
    pub const DIRECTORY: u8 = 3;
    pub const REGULAR_FILE: u8 = 4;
    pub const SYMBOLIC_LINK: u8 = 7;
}

fn filetype(metadata: &Metadata) -> u8 {
    match metadata.file_type() {
        kind if kind.is_dir() => filetype::DIRECTORY,
        kind if kind.is_file() => filetype::REGULAR_FILE,
        kind if kind.is_symlink() => filetype::SYMBOLIC_LINK,
        _ => filetype::UNKNOWN,
    }
}

/// `fd_fdstat_get(fd, out)`: writes `struct { u8 filetype; u16 flags; u64 rights, inherited; }`, 24 bytes.
pub fn fd_fdstat_get(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let kind = match args[0] as u32 {
        0..=2 => Ok(filetype::CHARACTER_DEVICE),
        fd => state.files.borrow().metadata(fd).map(|metadata| filetype(&metadata)),
    };
    // Current WASI has no rights, so all are set. Only a character device gets no right to seek: wasi-libc then regards it as
    // a terminal, to which it writes line by line.
    to_guest(kind.map_err(Failure::from).and_then(|kind| {
        const SEEK_AND_TELL: u8 = 1 << 2 | 1 << 5;
        let mut stat = [0xff_u8; 24];
        if kind == filetype::CHARACTER_DEVICE {
            stat[8] = !SEEK_AND_TELL;
        }
        stat[..8].copy_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        write(guest, args[1], &stat)
    }))
}

/// Writes `struct { u64 dev, ino; u8 filetype; u64 nlink, size, atim, mtim, ctim; }`, 64 bytes.
fn write_filestat(guest: Guest<'_>, at: u64, metadata: &Metadata) -> Result {
    let nanoseconds =
        |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest) as u64;
    let stat = [
        metadata.dev(),
        metadata.ino(),
        filetype(metadata).into(),
        metadata.nlink(),
        metadata.size(),
        nanoseconds(metadata.atime(), metadata.atime_nsec()),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    ];
    write(guest, at, &stat.map(u64::to_le_bytes).concat())
}

pub fn fd_filestat_get(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    if args[0] as u32 <= 2 {
        let mut stat = [0; 64];
        stat[16] = filetype::CHARACTER_DEVICE;
        return to_guest(write(guest, args[1], &stat));
    }
    let metadata = state.files.borrow().metadata(args[0] as u32);
    to_guest(metadata.map_err(Failure::from).and_then(|metadata| write_filestat(guest, args[1], &metadata)))
}

/// `fd_prestat_get(fd, out)`: writes `struct { u8 tag; u32 name_len; }`. The tag of a directory is 0.
pub fn fd_prestat_get(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let files = state.files.borrow();
    let name = files.preopened(args[0] as u32).map_err(Failure::from);
    to_guest(name.and_then(|name| {
        let stat = [0_u32.to_le_bytes(), (name.len() as u32).to_le_bytes()].concat();
        write(guest, args[1], &stat)
    }))
}

pub fn fd_prestat_dir_name(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let files = state.files.borrow();
    let name = files.preopened(args[0] as u32).map_err(Failure::from);
    to_guest(name.and_then(|name| match name.len() > args[2] as u32 as usize {
        true => Err(Failure::Number(number::NAMETOOLONG)),
        false => write(guest, args[1], name.as_bytes()),
    }))
}

/// Reads a path.
fn path(guest: Guest<'_>, at: u64, len: u64) -> Result<PathBuf> {
    const MAX_PATH: u32 = 4096;
    if len as u32 > MAX_PATH {
        return Err(Failure::Number(number::NAMETOOLONG));
    }
    let bytes = read(guest, at as u32, len as u32)?;
    String::from_utf8(bytes).map(PathBuf::from).map_err(|_| Failure::Number(number::INVAL))
}

/// The lookup flag to follow a symbolic link at the end of a path.
const FOLLOW: u32 = 1;

/// `path_open(dir, lookup_flags, path, len, oflags, rights, inherited, fdflags, out)`.
pub fn path_open(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    const CREATE_OR_TRUNCATE: u32 = 1 | 8;
    const DIRECTORY: u32 = 2;
    const RIGHT_TO_WRITE: u64 = 1 << 6;
    const RIGHT_TO_READ: u64 = 1 << 1;
    to_guest(path(guest, args[2], args[3]).and_then(|path| {
        let is_write_only = args[5] & (RIGHT_TO_WRITE | RIGHT_TO_READ) == RIGHT_TO_WRITE;
        if args[4] as u32 & CREATE_OR_TRUNCATE != 0 || is_write_only {
            return Err(Failure::Number(number::ROFS));
        }
        let mut flags = if args[1] as u32 & FOLLOW == 0 { libc::O_NOFOLLOW } else { 0 };
        if args[4] as u32 & DIRECTORY != 0 {
            flags |= libc::O_DIRECTORY;
        }
        let fd = state.files.borrow_mut().open(args[0] as u32, &path, flags)?;
        write_u32(guest, args[8], fd as usize)
    }))
}

/// `path_filestat_get(dir, flags, path, len, out)`.
pub fn path_filestat_get(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    to_guest(path(guest, args[2], args[3]).and_then(|path| {
        let is_followed = args[1] as u32 & FOLLOW != 0;
        let metadata = state.files.borrow().metadata_of(args[0] as u32, &path, is_followed)?;
        write_filestat(guest, args[4], &metadata)
    }))
}
