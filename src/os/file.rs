//! Files and directories.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::descriptor::own;
use super::errno::{Errno, Result, check};
use super::wait::{polled, wait};

/// Reads what there is of a descriptor that is not ours, past no buffer: what is left stays for whoever waits for it.
pub fn read(fd: RawFd, into: &mut [u8]) -> Result<usize> {
    // SAFETY: `into` has the length that is told.
    let got = unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) };
    usize::try_from(got).map_err(|_| Errno::last())
}

/// Reads a file, and one that is larger than `most` bytes to somewhere beyond them. The length that a file tells is not
/// to be relied on: a device or a pipe tells none.
pub fn read_file(path: &str, most: usize) -> Result<Vec<u8>> {
    const PIECE: usize = 64 << 10;
    let file = std::fs::File::open(path)?;
    let mut data = Vec::new();
    while data.len() <= most {
        let len = data.len();
        data.try_reserve(PIECE).map_err(|_| Errno(libc::ENOMEM))?;
        data.resize(len + PIECE, 0);
        let read = match read(file.as_raw_fd(), &mut data[len..]) {
            Err(Errno(libc::EINTR)) => None,
            read => Some(read?),
        };
        data.truncate(len + read.unwrap_or(0));
        if read == Some(0) {
            break;
        }
    }
    Ok(data)
}

/// A short text that the system keeps in a file.
pub fn read_text(path: &str) -> Result<String> {
    const MOST: usize = 64 << 10;
    String::from_utf8(read_file(path, MOST)?).map_err(|_| Errno(libc::EINVAL))
}

/// Writes all of `bytes` to a descriptor that is not ours, or what there is room for until `stop` is readable: a pipe
/// may be full for ever.
pub fn write(fd: RawFd, mut bytes: &[u8], stop: RawFd) -> Result<()> {
    while !bytes.is_empty() {
        let mut both = [polled(stop, libc::POLLIN), polled(fd, libc::POLLOUT)];
        if wait(&mut both, None)? == Some(0) {
            return Err(Errno(libc::ECANCELED));
        }
        // What a pipe with room takes without waiting.
        let piece = &bytes[..bytes.len().min(libc::PIPE_BUF)];
        // SAFETY: the piece has the length that is told.
        let written = unsafe { libc::write(fd, piece.as_ptr().cast(), piece.len()) };
        match usize::try_from(written) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) => match Errno::last() {
                Errno(libc::EINTR | libc::EAGAIN) => {}
                e => return Err(e),
            },
        }
    }
    Ok(())
}

/// A file that is in memory only and goes with its descriptor.
pub fn memory_file(content: &[u8]) -> Result<std::fs::File> {
    // SAFETY: a literal.
    let file =
        std::fs::File::from(own(unsafe { libc::memfd_create(c"eunomia".as_ptr(), libc::MFD_CLOEXEC) })?);
    // SAFETY: `content` is as long as told.
    let written = unsafe { libc::write(file.as_raw_fd(), content.as_ptr().cast(), content.len()) };
    // Memory takes all at once, or there is none.
    if written == content.len() as isize { Ok(file) } else { Err(Errno(libc::ENOMEM)) }
}

/// The names in a folder; none if it cannot be read. `std::fs::read_dir` would make the library 6 kB larger.
pub fn names(folder: &str) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(folder) = CString::new(folder) else { return names };
    // SAFETY: a C string; each entry, and the name in it, lives until the next one is read, and the folder is closed once.
    unsafe {
        let stream = libc::opendir(folder.as_ptr());
        if stream.is_null() {
            return names;
        }
        while let Some(entry) = libc::readdir(stream).as_ref() {
            names.push(CStr::from_ptr(entry.d_name.as_ptr()).to_string_lossy().into_owned());
        }
        libc::closedir(stream);
    }
    names
}

/// Opens a file at a path that cannot lead out of `folder`, not even by a link (Linux 5.6), with these flags of open(2).
pub fn open_beneath(folder: RawFd, path: &std::path::Path, flags: i32) -> Result<OwnedFd> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: plain numbers, of which all zero is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: path and struct live for the call, and the struct has that size.
    let fd =
        unsafe { libc::syscall(libc::SYS_openat2, folder, path.as_ptr(), &how, size_of::<libc::open_how>()) };
    own(fd as i32)
}

/// Entries of a folder from the place `from` on (0: the first one), as getdents64(2) writes them; how many bytes.
pub fn read_folder(fd: RawFd, from: u64, into: &mut [u8]) -> Result<usize> {
    // SAFETY: plain numbers, which the kernel checks; it writes to `into`, which has that length.
    let got = unsafe {
        if libc::lseek(fd, from as i64, libc::SEEK_SET) < 0 {
            return Err(Errno::last());
        }
        libc::syscall(libc::SYS_getdents64, fd, into.as_mut_ptr(), into.len())
    };
    check(got as i32).map(|got| got as usize)
}
