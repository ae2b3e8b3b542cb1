//! Memory that another process can keep when this one ends: a mapped memfd of a fixed size.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The size never changes, so that every access is within the file.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// The memory. All processes that have it trust each other; one at a time writes.
pub struct Shared {
    file: OwnedFd,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is tied to no thread.
unsafe impl Send for Shared {}

impl Shared {
    /// Creates memory of `len` bytes, all 0.
    pub fn create(len: usize) -> io::Result<Shared> {
        let file = memfd_create("eunomia log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, len as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        Shared::map(file, len)
    }

    /// Opens memory that another process has created, which must have `len` bytes.
    pub fn open(file: OwnedFd, len: usize) -> io::Result<Shared> {
        match fcntl_get_seals(&file)?.contains(SEALS)
            && u64::try_from(fstat(&file)?.st_size) == Ok(len as u64)
        {
            true => Shared::map(file, len),
            false => Err(io::Error::other("it has another size, or the size can change")),
        }
    }

    fn map(file: OwnedFd, len: usize) -> io::Result<Shared> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, &file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Shared { file, start, len })
    }

    /// The file.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Reads the number at `at`, a multiple of 8.
    pub fn number(&self, at: usize) -> u64 {
        self.atomic(at).load(Ordering::Acquire)
    }

    /// Stores a number at `at`, a multiple of 8, after everything that was written before.
    pub fn set_number(&mut self, at: usize, number: u64) {
        self.atomic(at).store(number, Ordering::Release);
    }

    fn atomic(&self, at: usize) -> &AtomicU64 {
        assert!(at % 8 == 0 && at + 8 <= self.len);
        // SAFETY: within the mapping, which is aligned to a page, and aligned.
        unsafe { self.start.add(at).cast().as_ref() }
    }

    /// Copies the bytes at `at`.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        assert!(into.len() <= self.len && at <= self.len - into.len());
        // SAFETY: both have that many bytes, and do not overlap.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr().add(at), into.as_mut_ptr(), into.len()) }
    }

    /// Copies `bytes` to `at`.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(bytes.len() <= self.len && at <= self.len - bytes.len());
        // SAFETY: both have that many bytes, and do not overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(at), bytes.len()) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping of this object, which nothing refers to any more. It cannot fail.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mappings_have_the_same_content() {
        let mut one = Shared::create(4096).unwrap();
        let other = Shared::open(one.file().try_clone_to_owned().unwrap(), 4096).unwrap();
        one.set_number(4088, 7);
        one.write(1, b"abc");
        let mut read = [0; 4];
        other.read(0, &mut read);
        assert_eq!((other.number(4088), &read), (7, b"\0abc"));
    }

    #[test]
    fn a_file_whose_size_is_wrong_or_can_change_is_refused() {
        let file = Shared::create(4096).unwrap().file().try_clone_to_owned().unwrap();
        assert!(ftruncate(&file, 0).is_err() && Shared::open(file, 8192).is_err());
        let loose = memfd_create("loose", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&loose, 4096).unwrap();
        assert!(Shared::open(loose, 4096).is_err());
    }

    #[test]
    fn an_access_outside_is_refused() {
        let outside = |work: fn(&mut Shared)| {
            std::thread::spawn(move || work(&mut Shared::create(4096).unwrap())).join().is_err()
        };
        assert!(outside(|shared| shared.set_number(4096, 0)) && outside(|shared| shared.set_number(4, 0)));
        assert!(outside(|shared| shared.read(4095, &mut [0; 2])));
        assert!(outside(|shared| shared.write(4095, &[0; 2])) && outside(|shared| shared.write(5000, &[])));
    }
}
