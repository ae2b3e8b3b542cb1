//! Reads and writes the elements of a map through its descriptor. This file checks the lengths, because the kernel does not
//! know them.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libbpf_sys as b;

use super::object::pointer_or_null;
use super::result::check;
use crate::os::{self, Errno};

/// The descriptor of a map, with the sizes that the kernel reads and writes.
pub struct MapFd {
    fd: OwnedFd,
    key_len: usize,
    value_len: usize,
}

/// The position of a batched lookup, in a format of the kernel.
pub struct BatchCursor(Option<Vec<u8>>);

impl BatchCursor {
    /// Starts at the first entry.
    pub fn start() -> BatchCursor {
        BatchCursor(None)
    }
}

impl MapFd {
    /// Takes ownership of a descriptor. `value_len` includes all CPUs of a per-CPU map.
    pub fn new(fd: OwnedFd, key_len: usize, value_len: usize) -> MapFd {
        MapFd { fd, key_len, value_len }
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Bytes of a value; of a per-CPU map those of all CPUs.
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

    /// Stores a value. `flags` is BPF_ANY, BPF_NOEXIST or BPF_EXIST.
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

    /// Copies the key after `key` to `next`, or the first key for `None`. Fails with ENOENT at the end.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> os::Result<()> {
        Self::check_len(next.len(), self.key_len)?;
        key.map_or(Ok(()), |key| Self::check_len(key.len(), self.key_len))?;
        let key = key.map_or(std::ptr::null(), pointer_or_null);
        // SAFETY: as in `lookup`; the kernel accepts a null key, which means the first.
        check(unsafe { b::bpf_map_get_next_key(self.fd(), key, next.as_mut_ptr().cast()) }).map(drop)
    }

    /// Copies up to `keys.len() / key_len` entries (Linux 5.6) and removes them if `remove` is set. Returns their number, and
    /// whether this was the last batch.
    pub fn lookup_batch(
        &self,
        cursor: &mut BatchCursor,
        remove: bool,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> os::Result<(usize, bool)> {
        let capacity = keys.len().checked_div(self.key_len).unwrap_or(0);
        Self::check_len(keys.len(), capacity * self.key_len)?;
        Self::check_len(values.len(), capacity * self.value_len)?;
        // The kernel stores a 4-byte bucket number in it for hash maps, a key for arrays and tries.
        let mut next = vec![0u8; self.key_len.max(8)];
        let from = cursor.0.as_mut().map_or(std::ptr::null_mut(), |c| c.as_mut_ptr());
        let mut count = capacity as u32;
        let call = if remove { b::bpf_map_lookup_and_delete_batch } else { b::bpf_map_lookup_batch };
        // SAFETY: both slices have `count` elements; both positions are long enough for any map type.
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

/// The kernel's facts about a map.
pub struct MapFacts {
    /// Kernel-wide id.
    pub id: u32,
    /// BPF_MAP_TYPE_*.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, of one CPU.
    pub value_size: u32,
    /// Maximum number of entries; bytes for a ring buffer.
    pub max_entries: u32,
}

/// Returns the kernel's facts about a map. Fails with EINVAL if the descriptor is of something else.
pub fn map_facts(fd: RawFd) -> os::Result<MapFacts> {
    let mut info = b::bpf_map_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` has `size` bytes; the kernel fills what it knows.
    check(unsafe { b::bpf_map_get_info_by_fd(fd, &mut info, &mut size) })?;
    let b::bpf_map_info { id, type_: kind, key_size, value_size, max_entries, .. } = info;
    Ok(MapFacts { id, kind, key_size, value_size, max_entries })
}
