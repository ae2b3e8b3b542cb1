//! Files and directories.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::descriptor::own;
use super::errno::{Errno, Result, check};
use super::wait::{polled, wait};

/// Reads from a descriptor of the host. Nothing is buffered: the rest of the input stays available to other readers.
pub fn read(fd: RawFd, into: &mut [u8]) -> Result<usize> {
    // SAFETY: `into` has that length.
    let got = unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) };
    usize::try_from(got).map_err(|_| Errno::last())
}

/// Reads a file. If it has more than `most` bytes, the result has more than `most` bytes too, but perhaps not
/// the whole file. The size in the file's metadata is not used: a device or a pipe has none.
pub fn read_file(path: &Path, most: usize) -> Result<Vec<u8>> {
    const CHUNK: usize = 64 << 10;
    let file = std::fs::File::open(path)?;
    let mut data = Vec::new();
    while data.len() <= most {
        let len = data.len();
        data.try_reserve(CHUNK).map_err(|_| Errno(libc::ENOMEM))?;
        data.resize(len + CHUNK, 0);
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

/// Reads a short text file of the system, such as those in /proc.
pub fn read_text(path: &str) -> Result<String> {
    const MOST: usize = 64 << 10;
    String::from_utf8(read_file(Path::new(path), MOST)?).map_err(|_| Errno(libc::EINVAL))
}

/// Writes all of `bytes` to a descriptor of the host. Returns ECANCELED when `stop` becomes readable before all bytes
/// are written, because a pipe may stay full.
pub fn write(fd: RawFd, mut bytes: &[u8], stop: RawFd) -> Result<()> {
    while !bytes.is_empty() {
        let mut both = [polled(stop, libc::POLLIN), polled(fd, libc::POLLOUT)];
        if wait(&mut both, None)? == Some(0) {
            return Err(Errno(libc::ECANCELED));
        }
        // A writable pipe accepts this many bytes without blocking.
        let chunk = &bytes[..bytes.len().min(libc::PIPE_BUF)];
        // SAFETY: the chunk has that length.
        let written = unsafe { libc::write(fd, chunk.as_ptr().cast(), chunk.len()) };
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

/// Creates a file in memory. It disappears when its last descriptor is closed.
pub fn memory_file(content: &[u8]) -> Result<std::fs::File> {
    // SAFETY: the name is a C string literal.
    let file =
        std::fs::File::from(own(unsafe { libc::memfd_create(c"eunomia".as_ptr(), libc::MFD_CLOEXEC) })?);
    // SAFETY: `content` has that length.
    let written = unsafe { libc::write(file.as_raw_fd(), content.as_ptr().cast(), content.len()) };
    // A write to memory is complete unless memory runs out.
    if written == content.len() as isize { Ok(file) } else { Err(Errno(libc::ENOMEM)) }
}

/// Returns the names in a directory; none if it is not readable. `std::fs::read_dir` would add 6 kB to the library.
pub fn directory_names(path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(path) = CString::new(path) else { return names };
    // SAFETY: `path` is a C string. Each entry and its name live until the next readdir. The stream is closed once.
    unsafe {
        let stream = libc::opendir(path.as_ptr());
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

/// Opens a file below a directory with `flags` of open(2). The path cannot leave the directory, not even through a link
/// (openat2, Linux 5.6).
pub fn open_beneath(directory: RawFd, path: &std::path::Path, flags: i32) -> Result<OwnedFd> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: the struct consists of numbers, for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: path and struct live for the call; the struct has that size.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, directory, path.as_ptr(), &how, size_of::<libc::open_how>())
    };
    own(fd as i32)
}

/// Reads entries of a directory in the format of getdents64(2), starting at the offset `from` (0: the first entry). Returns
/// the number of bytes.
pub fn read_directory(fd: RawFd, from: u64, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel checks the numbers; it writes to `into`, which has that length.
    let got = unsafe {
        if libc::lseek(fd, from as i64, libc::SEEK_SET) < 0 {
            return Err(Errno::last());
        }
        libc::syscall(libc::SYS_getdents64, fd, into.as_mut_ptr(), into.len())
    };
    check(got as i32).map(|got| got as usize)
}
