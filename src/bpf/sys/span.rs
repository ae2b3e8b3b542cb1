//! Records that are borrowed from a buffer, in the layout of C.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::{fmt, slice};

/// The bytes of a record. It derefs to a slice, and C has it as `eunomia_span`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Span<'a> {
    data: NonNull<u8>,
    len: usize,
    bytes: PhantomData<&'a [u8]>,
}

// SAFETY: a span is a shared slice.
unsafe impl Send for Span<'_> {}
// SAFETY: a span is a shared slice.
unsafe impl Sync for Span<'_> {}

impl<'a> From<&'a [u8]> for Span<'a> {
    #[inline(always)]
    fn from(bytes: &'a [u8]) -> Span<'a> {
        Span { data: NonNull::from(bytes).cast(), len: bytes.len(), bytes: PhantomData }
    }
}

impl Deref for Span<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: made from a slice that lives as long.
        unsafe { slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Maximum number of records in a batch.
const MOST: usize = 256;

/// The records of a batch. It lies on the stack and is not cleared first, which would take longer than to read one record.
pub struct Spans<'a> {
    list: [MaybeUninit<Span<'a>>; MOST],
    count: usize,
    limit: usize,
}

impl<'a> Spans<'a> {
    /// Returns an empty list for at most `limit` records.
    #[inline(always)]
    pub fn new(limit: usize) -> Spans<'a> {
        Spans { list: [MaybeUninit::uninit(); MOST], count: 0, limit: limit.min(MOST) }
    }

    /// Removes all records. The list then has capacity for at most `limit`.
    pub fn clear(&mut self, limit: usize) {
        (self.count, self.limit) = (0, limit.min(MOST));
    }

    /// Appends a record. Returns whether there is capacity for another one.
    #[inline(always)]
    pub fn push(&mut self, record: &'a [u8]) -> bool {
        if let Some(free) = self.list.get_mut(self.count) {
            *free = MaybeUninit::new(record.into());
            self.count += 1;
        }
        self.count < self.limit
    }

    /// Returns the records.
    pub fn as_slice(&self) -> &[Span<'a>] {
        // SAFETY: `push` has initialized the first `count` elements.
        unsafe { slice::from_raw_parts(self.list.as_ptr().cast(), self.count) }
    }
}
