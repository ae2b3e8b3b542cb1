//! WASI preview 1: arguments, clocks, random numbers, printing, sleeping, and files to read where the host gives some.
//!
//! What would change anything outside, and sockets, answers "not implemented". There is no environment.

mod files;

use std::fs::Metadata;
use std::io::SeekFrom;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::os::{self, Errno};
use crate::wasm::Config;
use crate::wasm::imports::{Args, Call, Table, table};
use crate::wasm::run::{End, Run, Stream};
use crate::wasm::sys::instance::Guest;
use files::Files;

pub(super) const IMPORTS: Table = table![
    ("args_get(ii)i", args_get),
    ("args_sizes_get(ii)i", args_sizes_get),
    ("clock_res_get(ii)i", clock_res_get),
    ("clock_time_get(iIi)i", clock_time_get),
    ("environ_get(ii)i", nothing),
    ("environ_sizes_get(ii)i", environ_sizes_get),
    ("fd_advise(iIIi)i", nothing),
    ("fd_close(i)i", fd_close),
    ("fd_datasync(i)i", nothing),
    ("fd_fdstat_get(ii)i", fd_fdstat_get),
    ("fd_filestat_get(ii)i", fd_filestat_get),
    ("fd_pread(iiiIi)i", fd_pread),
    ("fd_prestat_dir_name(iii)i", fd_prestat_dir_name),
    ("fd_prestat_get(ii)i", fd_prestat_get),
    ("fd_read(iiii)i", fd_read),
    ("fd_readdir(iiiIi)i", fd_readdir),
    ("fd_seek(iIii)i", fd_seek),
    ("fd_sync(i)i", nothing),
    ("fd_tell(ii)i", fd_tell),
    ("fd_write(iiii)i", fd_write),
    ("path_filestat_get(iiiii)i", path_filestat_get),
    ("path_open(iiiiiIIii)i", path_open),
    ("poll_oneoff(iiii)i", poll_oneoff),
    ("proc_exit(i)", proc_exit),
    ("random_get(ii)i", random_get),
    ("sched_yield()i", nothing),
];

/// What is `missing`, with a space in between.
pub(super) const MISSING: &str = "\
    fd_allocate(iII)i fd_fdstat_set_flags(ii)i fd_fdstat_set_rights(iII)i fd_filestat_set_size(iI)i \
    fd_filestat_set_times(iIIi)i fd_pwrite(iiiIi)i fd_renumber(ii)i path_create_directory(iii)i \
    path_filestat_set_times(iiiiIIi)i path_link(iiiiiii)i path_readlink(iiiiii)i \
    path_remove_directory(iii)i path_rename(iiiiii)i path_symlink(iiiii)i path_unlink_file(iii)i \
    proc_raise(i)i sock_accept(iii)i sock_recv(iiiiii)i sock_send(iiiii)i sock_shutdown(ii)i";

/// Errors as WASI numbers them.
mod error {
    pub const ACCES: u16 = 2;
    pub const AGAIN: u16 = 6;
    pub const BADF: u16 = 8;
    pub const FAULT: u16 = 21;
    pub const INVAL: u16 = 28;
    pub const IO: u16 = 29;
    pub const ISDIR: u16 = 31;
    pub const LOOP: u16 = 32;
    pub const MFILE: u16 = 33;
    pub const NAMETOOLONG: u16 = 37;
    pub const NOENT: u16 = 44;
    pub const NOSYS: u16 = 52;
    pub const NOTDIR: u16 = 54;
    pub const ROFS: u16 = 69;
    pub const SPIPE: u16 = 70;
    pub const NOTCAPABLE: u16 = 76;
}

/// What a guest sees of the world.
pub(super) struct Wasi {
    args: Vec<Vec<u8>>,
    files: Files,
}

impl Wasi {
    /// Opens the folders that the options give.
    pub fn new(config: &Config, argv: &[&str]) -> Result<Wasi> {
        let terminated = |arg: &&str| [arg.as_bytes(), &[0]].concat();
        Ok(Wasi { args: argv.iter().map(terminated).collect(), files: Files::new(&config.dirs)? })
    }
}

/// What a function comes to: an error, or that the guest is at its end.
pub(super) enum Stop {
    Error(u16),
    End,
}

impl From<u16> for Stop {
    fn from(error: u16) -> Stop {
        Stop::Error(error)
    }
}

impl From<Errno> for Stop {
    fn from(e: Errno) -> Stop {
        Stop::Error(match e.0 {
            libc::EACCES | libc::EPERM => error::ACCES,
            libc::EAGAIN => error::AGAIN,
            libc::EBADF => error::BADF,
            libc::EINVAL => error::INVAL,
            libc::EISDIR => error::ISDIR,
            libc::ELOOP => error::LOOP,
            libc::EMFILE | libc::ENFILE => error::MFILE,
            libc::ENAMETOOLONG => error::NAMETOOLONG,
            libc::ENOENT => error::NOENT,
            libc::ENOTDIR => error::NOTDIR,
            libc::ESPIPE => error::SPIPE,
            libc::EXDEV => error::NOTCAPABLE,
            _ => error::IO,
        })
    }
}

/// An error number as the guest gets it.
fn answer(result: Result<(), Stop>) -> Option<u64> {
    match result {
        Ok(()) => Some(0),
        Err(Stop::Error(error)) => Some(error.into()),
        Err(Stop::End) => None,
    }
}

/// Writes to the guest's memory.
fn put(guest: Guest<'_>, at: u64, bytes: &[u8]) -> Result<(), Stop> {
    guest.write(at as u32, bytes).ok_or(Stop::Error(error::FAULT))
}

fn put_u32(guest: Guest<'_>, at: u64, number: usize) -> Result<(), Stop> {
    put(guest, at, &(number as u32).to_le_bytes())
}

/// Reads from the guest's memory.
fn get(guest: Guest<'_>, at: u32, len: u32) -> Result<Vec<u8>, Stop> {
    guest.read(at, len).ok_or(Stop::Error(error::FAULT))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Done: there is nothing to do.
fn nothing(_run: &Run<'_>, _guest: Guest<'_>, _args: &Args) -> Option<u64> {
    Some(0)
}

/// Not there, and never allowed.
pub(super) fn missing(_run: &Run<'_>, _guest: Guest<'_>, _args: &Args) -> Option<u64> {
    Some(error::NOSYS.into())
}

fn args_sizes_get(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let wasi = run.wasi.borrow();
    let bytes = wasi.args.iter().map(Vec::len).sum();
    answer(put_u32(guest, args[0], wasi.args.len()).and_then(|()| put_u32(guest, args[1], bytes)))
}

fn args_get(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut place = args[1] as u32;
    let mut pointers = Vec::new();
    for arg in &run.wasi.borrow().args {
        pointers.extend_from_slice(&place.to_le_bytes());
        place = place.wrapping_add(arg.len() as u32);
    }
    let texts = run.wasi.borrow().args.concat();
    answer(put(guest, args[0], &pointers).and_then(|()| put(guest, args[1], &texts)))
}

fn environ_sizes_get(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    answer(put_u32(guest, args[0], 0).and_then(|()| put_u32(guest, args[1], 0)))
}

/// The clock of that number: real time, monotonic, and the processor time of process and thread.
pub(super) fn clock(id: u64) -> Result<u64, Stop> {
    let id = match id as u32 {
        0 => libc::CLOCK_REALTIME,
        1 => libc::CLOCK_MONOTONIC,
        2 => libc::CLOCK_PROCESS_CPUTIME_ID,
        3 => libc::CLOCK_THREAD_CPUTIME_ID,
        _ => return Err(Stop::Error(error::INVAL)),
    };
    Ok(os::clock(id)?)
}

fn clock_res_get(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    answer(clock(args[0]).and_then(|_| put(guest, args[1], &1_u64.to_le_bytes())))
}

fn clock_time_get(_run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    answer(clock(args[0]).and_then(|now| put(guest, args[2], &now.to_le_bytes())))
}

fn random_get(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    answer(get(guest, args[0] as u32, args[1] as u32).and_then(|mut bytes| {
        // Many take long, and `stop` has its say in between.
        for part in bytes.chunks_mut(AT_ONCE as usize) {
            os::random(part)?;
            wait(run, &[], Some(Duration::ZERO))?;
        }
        put(guest, args[0], &bytes)
    }))
}

fn proc_exit(run: &Run<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    run.ends(End::Exit(args[0] as i32))
}

/// Bytes that one call reads or writes at most; the guest asks again for the rest, and can be stopped in between.
const AT_ONCE: u32 = 1 << 20;

/// The pieces of a scattered read or write: where, and how long.
fn pieces(guest: Guest<'_>, at: u64, count: u64) -> Result<Vec<(u32, u32)>, Stop> {
    const PIECES: u32 = 1024;
    let count = count as u32;
    if count > PIECES {
        return Err(Stop::Error(error::INVAL));
    }
    let list = get(guest, at as u32, 8 * count)?;
    let pieces: Vec<_> = list.chunks_exact(8).map(|piece| (u32_at(piece, 0), u32_at(piece, 4))).collect();
    let all_there = pieces.iter().all(|&(at, len)| guest.has(at, len));
    if all_there { Ok(pieces) } else { Err(Stop::Error(error::FAULT)) }
}

fn fd_write(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let stream = match args[0] as u32 {
        1 => Stream::Out,
        2 => Stream::Err,
        fd => {
            let is_open = fd == 0 || run.wasi.borrow().files.metadata(fd).is_ok();
            return Some(if is_open { error::ROFS } else { error::BADF }.into());
        }
    };
    answer(pieces(guest, args[1], args[2]).and_then(|pieces| {
        let mut written = 0;
        for (at, len) in pieces {
            let len = len.min(AT_ONCE - written);
            run.print(stream, &get(guest, at, len)?).ok_or(Stop::End)?;
            written += len;
        }
        put_u32(guest, args[3], written as usize)
    }))
}

fn fd_read(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let fd = args[0] as u32;
    let read = |bytes: &mut [u8], _| match fd {
        0 => stdin(run, bytes),
        1 | 2 => Err(Stop::Error(error::BADF)),
        _ => Ok(run.wasi.borrow().files.read(fd, bytes)?),
    };
    answer(read_pieces(guest, args[1], args[2], &read).and_then(|total| put_u32(guest, args[3], total)))
}

/// `fd_pread(fd, pieces, count, offset, out)`.
fn fd_pread(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let fd = args[0] as u32;
    let read = |bytes: &mut [u8], done: usize| match fd {
        0..=2 => Err(Stop::Error(error::SPIPE)),
        _ => Ok(run.wasi.borrow().files.read_at(fd, args[3].saturating_add(done as u64), bytes)?),
    };
    answer(read_pieces(guest, args[1], args[2], &read).and_then(|total| put_u32(guest, args[4], total)))
}

/// Fills a piece, given how many bytes have been read already; how many there were.
type Fill<'a> = dyn Fn(&mut [u8], usize) -> Result<usize, Stop> + 'a;

/// Has `read` fill one piece after the other; how many bytes it comes to.
fn read_pieces(guest: Guest<'_>, at: u64, count: u64, read: &Fill<'_>) -> Result<usize, Stop> {
    let mut total = 0;
    for (at, len) in pieces(guest, at, count)? {
        let mut bytes = vec![0; len.min(AT_ONCE - total as u32) as usize];
        let got = read(&mut bytes, total)?;
        put(guest, at.into(), &bytes[..got])?;
        total += got;
        if got < len as usize {
            break;
        }
    }
    Ok(total)
}

/// `fd_readdir(fd, buffer, len, from, out)`: entries `struct { u64 next, inode; u32 len; u8 filetype; }`, 24 bytes, each
/// with its name behind it; the last one is cut off where the buffer ends, and a buffer that is not full tells the end.
fn fd_readdir(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (room, mut list) = ((args[2] as u32).min(AT_ONCE) as usize, Vec::new());
    let read = run.wasi.borrow().files.read_folder(args[0] as u32, args[3], |entry| {
        let head = [entry.next.to_le_bytes(), entry.inode.to_le_bytes()].concat();
        let kind = match entry.kind {
            libc::DT_DIR => filetype::DIRECTORY,
            libc::DT_REG => filetype::REGULAR_FILE,
            libc::DT_LNK => filetype::SYMBOLIC_LINK,
            _ => filetype::UNKNOWN,
        };
        let tail = [(entry.name.len() as u32).to_le_bytes(), [kind, 0, 0, 0]].concat();
        [&head, &tail, entry.name].iter().for_each(|part| list.extend_from_slice(part));
        list.len() < room
    });
    list.truncate(room);
    answer(read.map_err(Stop::from).and_then(|()| {
        put(guest, args[1], &list)?;
        put_u32(guest, args[4], list.len())
    }))
}

/// The host's stdin, if the guest may have it; else it is empty.
fn stdin(run: &Run<'_>, into: &mut [u8]) -> Result<usize, Stop> {
    const STDIN: RawFd = 0;
    if !run.config.stdio || into.is_empty() {
        return Ok(0);
    }
    wait(run, &[STDIN], None)?;
    Ok(os::read(STDIN, into)?)
}

/// Waits for one of the descriptors, the time, or the end of the guest. What it sleeps counts as the time of its call.
fn wait(run: &Run<'_>, fds: &[RawFd], time: Option<Duration>) -> Result<(), Stop> {
    let all = [&[run.vm.stop_fd], fds].concat();
    let deadline = time.map(|time| Instant::now() + time);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let nap = run.watch.nap().map_or(left, |nap| Some(left.map_or(nap, |left| left.min(nap))));
        match os::wait_readable(&all, nap)? {
            Some(0) => {
                run.ends::<()>(End::Stopped);
                return Err(Stop::End);
            }
            None if run.watch.is_over() => return Err(Stop::End),
            None if nap != left => {}
            _ => return Ok(()),
        }
    }
}

fn fd_close(run: &Run<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    match args[0] as u32 {
        0..=2 => Some(0),
        fd => answer(run.wasi.borrow_mut().files.close(fd).map_err(Stop::from)),
    }
}

fn fd_seek(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (fd, offset) = (args[0] as u32, args[1] as i64);
    let to = match (args[2] as u32, u64::try_from(offset)) {
        (0, Ok(offset)) => SeekFrom::Start(offset),
        (1, _) => SeekFrom::Current(offset),
        (2, _) => SeekFrom::End(offset),
        _ => return Some(error::INVAL.into()),
    };
    answer(seek(run, fd, to).and_then(|at| put(guest, args[3], &at.to_le_bytes())))
}

fn fd_tell(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let at = seek(run, args[0] as u32, SeekFrom::Current(0));
    answer(at.and_then(|at| put(guest, args[1], &at.to_le_bytes())))
}

fn seek(run: &Run<'_>, fd: u32, to: SeekFrom) -> Result<u64, Stop> {
    match fd {
        0..=2 => Err(Stop::Error(error::SPIPE)),
        _ => Ok(run.wasi.borrow().files.seek(fd, to)?),
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

/// `struct { u8 filetype; u16 flags; u64 rights, inherited; }`, 24 bytes.
fn fd_fdstat_get(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let kind = match args[0] as u32 {
        0..=2 => Ok(filetype::CHARACTER_DEVICE),
        fd => run.wasi.borrow().files.metadata(fd).map(|metadata| filetype(&metadata)),
    };
    // Rights are from a time when WASI had them; everything is allowed that works. By the right to seek wasi-libc tells files
    // from terminals, and only to a terminal it writes line by line.
    answer(kind.map_err(Stop::from).and_then(|kind| {
        const SEEK_AND_TELL: u8 = 1 << 2 | 1 << 5;
        let mut stat = [0xff_u8; 24];
        if kind == filetype::CHARACTER_DEVICE {
            stat[8] = !SEEK_AND_TELL;
        }
        stat[..8].copy_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        put(guest, args[1], &stat)
    }))
}

/// `struct { u64 dev, ino; u8 filetype; u64 nlink, size, atim, mtim, ctim; }`, 64 bytes.
fn put_filestat(guest: Guest<'_>, at: u64, metadata: &Metadata) -> Result<(), Stop> {
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
    put(guest, at, &stat.map(u64::to_le_bytes).concat())
}

fn fd_filestat_get(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    if args[0] as u32 <= 2 {
        let mut stat = [0; 64];
        stat[16] = filetype::CHARACTER_DEVICE;
        return answer(put(guest, args[1], &stat));
    }
    let metadata = run.wasi.borrow().files.metadata(args[0] as u32);
    answer(metadata.map_err(Stop::from).and_then(|metadata| put_filestat(guest, args[1], &metadata)))
}

/// `struct { u8 tag; u32 name_len; }`: a directory is 0.
fn fd_prestat_get(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let wasi = run.wasi.borrow();
    let name = wasi.files.preopened(args[0] as u32).map_err(Stop::from);
    answer(name.and_then(|name| {
        let stat = [0_u32.to_le_bytes(), (name.len() as u32).to_le_bytes()].concat();
        put(guest, args[1], &stat)
    }))
}

fn fd_prestat_dir_name(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let wasi = run.wasi.borrow();
    let name = wasi.files.preopened(args[0] as u32).map_err(Stop::from);
    answer(name.and_then(|name| match name.len() > args[2] as u32 as usize {
        true => Err(Stop::Error(error::NAMETOOLONG)),
        false => put(guest, args[1], name.as_bytes()),
    }))
}

fn path(guest: Guest<'_>, at: u64, len: u64) -> Result<PathBuf, Stop> {
    const PATH: u32 = 4096;
    if len as u32 > PATH {
        return Err(Stop::Error(error::NAMETOOLONG));
    }
    let bytes = get(guest, at as u32, len as u32)?;
    String::from_utf8(bytes).map(PathBuf::from).map_err(|_| Stop::Error(error::INVAL))
}

/// The lookup flag that has a link at the end of a path followed.
const FOLLOW: u32 = 1;

/// `path_open(dir, lookup_flags, path, len, oflags, rights, inherited, fdflags, out)`.
fn path_open(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    const MAKE_OR_TRUNCATE: u32 = 1 | 8;
    const DIRECTORY: u32 = 2;
    const RIGHT_TO_WRITE: u64 = 1 << 6;
    const RIGHT_TO_READ: u64 = 1 << 1;
    answer(path(guest, args[2], args[3]).and_then(|path| {
        let only_write = args[5] & (RIGHT_TO_WRITE | RIGHT_TO_READ) == RIGHT_TO_WRITE;
        if args[4] as u32 & MAKE_OR_TRUNCATE != 0 || only_write {
            return Err(Stop::Error(error::ROFS));
        }
        let mut flags = if args[1] as u32 & FOLLOW == 0 { libc::O_NOFOLLOW } else { 0 };
        if args[4] as u32 & DIRECTORY != 0 {
            flags |= libc::O_DIRECTORY;
        }
        let fd = run.wasi.borrow_mut().files.open(args[0] as u32, &path, flags)?;
        put_u32(guest, args[8], fd as usize)
    }))
}

/// `path_filestat_get(dir, flags, path, len, out)`.
fn path_filestat_get(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    answer(path(guest, args[2], args[3]).and_then(|path| {
        let is_followed = args[1] as u32 & FOLLOW != 0;
        let metadata = run.wasi.borrow().files.metadata_of(args[0] as u32, &path, is_followed)?;
        put_filestat(guest, args[4], &metadata)
    }))
}

/// `poll_oneoff(in, out, count, out_count)`: sleeps, unless one of the subscriptions is for a file: these are ready.
fn poll_oneoff(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    answer(poll(run, guest, args))
}

fn poll(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Result<(), Stop> {
    const SUBSCRIPTION: usize = 48;
    const SUBSCRIPTIONS: u32 = 1024;
    const CLOCK: u8 = 0;
    let count = args[2] as u32;
    if count == 0 || count > SUBSCRIPTIONS {
        return Err(Stop::Error(error::INVAL));
    }
    let list = get(guest, args[0] as u32, count * SUBSCRIPTION as u32)?;
    let (mut ready, mut least) = (Vec::new(), u64::MAX);
    let mut times = Vec::new();
    for it in list.chunks_exact(SUBSCRIPTION) {
        let time = if it[8] == CLOCK { time_left(it)? } else { 0 };
        least = least.min(time);
        times.push(time);
    }
    // What is ready at once needs no wait, but `stop` has its say.
    wait(run, &[], Some(Duration::from_nanos(least)))?;
    for (it, time) in list.chunks_exact(SUBSCRIPTION).zip(times) {
        if time == least {
            push_event(&mut ready, it);
        }
    }
    put(guest, args[1], &ready)?;
    put_u32(guest, args[3], ready.len() / EVENT)
}

/// Nanoseconds until a subscription of a clock is over.
fn time_left(subscription: &[u8]) -> Result<u64, Stop> {
    let is_absolute = subscription[40] & 1 != 0;
    let time = u64_at(subscription, 24);
    Ok(if is_absolute { time.saturating_sub(clock(u32_at(subscription, 16).into())?) } else { time })
}

/// Bytes of `struct { u64 userdata; u16 error; u8 type; u64 nbytes; u16 flags; }`.
const EVENT: usize = 32;

fn push_event(list: &mut Vec<u8>, subscription: &[u8]) {
    let mut event = [0; EVENT];
    event[..8].copy_from_slice(&subscription[..8]);
    event[10] = subscription[8];
    list.extend_from_slice(&event);
}
