//! Elements of a map, by its descriptor. Lengths are checked here, since the kernel trusts the pointer.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libbpf_sys as b;

use super::object::pointer_or_null;
use super::result::check;
use crate::os::{self, Errno};

/// A map's descriptor with the sizes the kernel will read and write.
pub struct MapFd {
    fd: OwnedFd,
    key_len: usize,
    value_len: usize,
}

/// Where a batched lookup goes on; opaque to everyone but the kernel.
pub struct BatchCursor(Option<Vec<u8>>);

impl BatchCursor {
    /// From the beginning.
    pub fn start() -> BatchCursor {
        BatchCursor(None)
    }
}

impl MapFd {
    /// `value_len` counts all CPUs of a per-CPU map.
    pub fn new(fd: OwnedFd, key_len: usize, value_len: usize) -> MapFd {
        MapFd { fd, key_len, value_len }
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Bytes of a value, all CPUs of a per-CPU map together.
    pub fn value_len(&self) -> usize {
        self.value_len
    }

    fn check_len(actual: usize, expected: usize) -> os::Result<()> {
        if actual == expected { Ok(()) } else { Err(Errno(libc::EINVAL)) }
    }

    /// Copies the value of `key`.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> os::Result<()> {
        Self::check_len(key.len(), self.key_len)?;
        Self::check_len(value.len(), self.value_len)?;
        // SAFETY: both slices have the lengths the kernel uses for this map.
        check(unsafe { b::bpf_map_lookup_elem(self.fd(), pointer_or_null(key), value.as_mut_ptr().cast()) })
            .map(drop)
    }

    /// Stores a value; `flags` are BPF_ANY and its siblings.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> os::Result<()> {
        Self::check_len(key.len(), self.key_len)?;
        Self::check_len(value.len(), self.value_len)?;
        // SAFETY: as in `lookup`.
        check(unsafe {
            b::bpf_map_update_elem(self.fd(), pointer_or_null(key), value.as_ptr().cast(), flags)
        })
        .map(drop)
    }

    /// Removes an entry.
    pub fn delete(&self, key: &[u8]) -> os::Result<()> {
        Self::check_len(key.len(), self.key_len)?;
        // SAFETY: as in `lookup`.
        check(unsafe { b::bpf_map_delete_elem(self.fd(), pointer_or_null(key)) }).map(drop)
    }

    /// Copies the value of `key` and removes the entry in one step (hash maps, Linux 5.14).
    pub fn take(&self, key: &[u8], value: &mut [u8]) -> os::Result<()> {
        Self::check_len(key.len(), self.key_len)?;
        Self::check_len(value.len(), self.value_len)?;
        // SAFETY: as in `lookup`.
        check(unsafe {
            b::bpf_map_lookup_and_delete_elem(self.fd(), pointer_or_null(key), value.as_mut_ptr().cast())
        })
        .map(drop)
    }

    /// The key after `key` (`None`: the first); ENOENT at the end.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> os::Result<()> {
        Self::check_len(next.len(), self.key_len)?;
        key.map_or(Ok(()), |key| Self::check_len(key.len(), self.key_len))?;
        let key = key.map_or(std::ptr::null(), pointer_or_null);
        // SAFETY: as in `lookup`; the kernel accepts a null key for "the first".
        check(unsafe { b::bpf_map_get_next_key(self.fd(), key, next.as_mut_ptr().cast()) }).map(drop)
    }

    /// Copies up to `keys.len() / key_len` entries (Linux 5.6), removing them if told to, and says how many;
    /// `Ok((n, true))` was the last batch.
    pub fn lookup_batch(
        &self,
        cursor: &mut BatchCursor,
        remove: bool,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> os::Result<(usize, bool)> {
        let room = keys.len().checked_div(self.key_len).unwrap_or(0);
        Self::check_len(keys.len(), room * self.key_len)?;
        Self::check_len(values.len(), room * self.value_len)?;
        // Hash maps keep a 4-byte bucket number in it, arrays and tries a key.
        let mut next = vec![0u8; self.key_len.max(8)];
        let from = cursor.0.as_mut().map_or(std::ptr::null_mut(), |c| c.as_mut_ptr());
        let mut count = room as u32;
        let call = if remove { b::bpf_map_lookup_and_delete_batch } else { b::bpf_map_lookup_batch };
        // SAFETY: both slices hold `count` elements; both cursors are long enough for any map type.
        let ret = unsafe {
            call(
                self.fd(),
                from.cast(),
                next.as_mut_ptr().cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &mut count,
                std::ptr::null(),
            )
        };
        cursor.0 = Some(next);
        match check(ret) {
            Ok(_) => Ok((count as usize, false)),
            Err(e) if e.0 == libc::ENOENT => Ok((count as usize, true)),
            Err(e) => Err(e),
        }
    }
}
