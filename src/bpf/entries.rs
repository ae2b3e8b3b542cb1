//! Iterates over the entries of a map in chunks, so that a large map does not delay a ring buffer.
//!
//! If the kernel supports batched lookup, a chunk is one system call. Otherwise each entry takes two calls.

use super::constants::{ENOTSUPP, map_type};
use super::map::Map;
use super::sys::map::{BatchCursor, MapFd};
use crate::memory;
use crate::os::{self, Errno};

/// Entries in a chunk.
const CHUNK: usize = 256;
/// Maximum bytes of a chunk, unless a single entry is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// One iteration over a map.
pub struct Entries {
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Maximum number of entries in a chunk.
    capacity: usize,
    key_len: usize,
    value_len: usize,
    filled: usize,
    next: usize,
    clear: bool,
    mode: Mode,
    /// Maximum number of entries still to come. A map that changes during the iteration must not make it endless.
    left: usize,
}

enum Mode {
    Batch(BatchCursor),
    Keys(Option<Vec<u8>>),
    Done,
}

impl Entries {
    /// Starts an iteration. With `clear` it removes the entries that it returns.
    pub fn new(map: &Map, clear: bool) -> Entries {
        let (key_len, value_len) = (map.key.size, map.value_len());
        let is_array = matches!(map.kind, map_type::ARRAY | map_type::PERCPU_ARRAY);
        // Entries of an array cannot be removed. They are set to zero one by one.
        let mode = if is_array && clear { Mode::Keys(None) } else { Mode::Batch(BatchCursor::start()) };
        let left = (map.max_entries as usize).saturating_mul(2).max(CHUNK);
        let fitting = (CHUNK_BYTES / (key_len + value_len).max(1)).max(1);
        let capacity = CHUNK.min(fitting).min(map.max_entries.max(1) as usize);
        let (keys, values) = (Vec::new(), Vec::new());
        Entries { keys, values, capacity, key_len, value_len, filled: 0, next: 0, clear, mode, left }
    }

    /// Passes the rest of the current chunk, or a new one, to `f` until that returns false. Returns true when the iteration
    /// is complete.
    pub fn step(&mut self, map: &Map, mut f: impl FnMut(&[u8], &[u8]) -> bool) -> os::Result<bool> {
        if self.next == self.filled {
            self.fill(map)?;
        }
        while self.next < self.filled {
            let (index, key_len, value_len) = (self.next, self.key_len, self.value_len);
            self.next += 1;
            let key = &self.keys[index * key_len..][..key_len];
            if !f(key, &self.values[index * value_len..][..value_len]) {
                break;
            }
        }
        Ok(self.next == self.filled && (matches!(self.mode, Mode::Done) || self.left == 0))
    }

    fn fill(&mut self, map: &Map) -> os::Result<()> {
        (self.next, self.filled) = (0, 0);
        if self.key_len == 0 {
            // A queue, a stack or a ring buffer has no keys.
            return Err(Errno(ENOTSUPP));
        }
        let fd = map.fd().map_err(|_| Errno(libc::EBADF))?;
        // Allocated at first use, so that a lack of memory is an error of the iteration.
        let out_of_memory = |_| Errno(libc::ENOMEM);
        memory::extend(&mut self.keys, self.capacity * self.key_len).map_err(out_of_memory)?;
        memory::extend(&mut self.values, self.capacity * self.value_len).map_err(out_of_memory)?;
        if let Mode::Batch(cursor) = &mut self.mode {
            match fd.lookup_batch(cursor, self.clear, &mut self.keys, &mut self.values) {
                Ok((count, last)) => {
                    self.filled = count;
                    if last {
                        self.mode = Mode::Done;
                    }
                }
                // A bucket of a hash map has more entries than the chunk. Nothing was copied.
                Err(e) if e.0 == libc::ENOSPC => self.capacity *= 2,
                Err(e) if is_lacking(e) => self.mode = Mode::Keys(None),
                Err(e) => return Err(e),
            }
        }
        if matches!(self.mode, Mode::Keys(_)) {
            self.fill_by_key(map, fd)?;
        }
        self.left = self.left.saturating_sub(self.filled);
        Ok(())
    }

    /// Reads the keys first, then the values. If a key were removed in between, the kernel would start again at the first key.
    fn fill_by_key(&mut self, map: &Map, fd: &MapFd) -> os::Result<()> {
        let Mode::Keys(last) = &mut self.mode else { return Ok(()) };
        let capacity = self.capacity.min(self.left);
        let mut keys = Vec::with_capacity(capacity);
        let mut ended = false;
        while keys.len() < capacity && !ended {
            let mut next = vec![0; self.key_len];
            ended = !found(fd.next_key(keys.last().or(last.as_ref()).map(Vec::as_slice), &mut next))?;
            if !ended {
                keys.push(next);
            }
        }
        *last = keys.last().cloned();
        for key in keys {
            let value = &mut self.values[self.filled * self.value_len..][..self.value_len];
            if found(if self.clear { take(map, fd, &key, value) } else { fd.lookup(&key, value) })? {
                self.keys[self.filled * self.key_len..][..self.key_len].copy_from_slice(&key);
                self.filled += 1;
            }
        }
        if ended {
            self.mode = Mode::Done;
        }
        Ok(())
    }
}

/// Copies a value and clears its entry, in one step if the kernel supports that, so that no update in between is lost.
fn take(map: &Map, fd: &MapFd, key: &[u8], value: &mut [u8]) -> os::Result<()> {
    if matches!(map.kind, map_type::ARRAY | map_type::PERCPU_ARRAY) {
        fd.lookup(key, value)?;
        return fd.update(key, &vec![0; map.value_len()], 0);
    }
    match fd.take(key, value) {
        Err(e) if is_lacking(e) => fd.lookup(key, value).and_then(|()| fd.delete(key)),
        taken => taken,
    }
}

/// Turns "no such entry" into `false`.
fn found(result: os::Result<()>) -> os::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.0 == libc::ENOENT => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether an error means that the kernel lacks an operation for this type of map.
fn is_lacking(e: Errno) -> bool {
    matches!(e.0, libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
}
