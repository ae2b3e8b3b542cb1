//! Records that are borrowed from a buffer, in the layout of C.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::{fmt, slice};

/// The bytes of a record. It derefs to a slice. Its name in C is `eunomia_span`.
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

/// The records of a batch. The list is on the stack and is not cleared first: clearing it would take longer
/// than reading one record.
pub struct Spans<'a>([MaybeUninit<Span<'a>>; Spans::MOST]);

impl<'a> Spans<'a> {
    /// Maximum number of records in a batch.
    pub const MOST: usize = 256;

    /// Returns a list without records.
    #[inline(always)]
    pub fn new() -> Spans<'a> {
        Spans([MaybeUninit::uninit(); Spans::MOST])
    }

    /// Stores a record. The list has no count, so that the loop that reads records has it in a register.
    #[inline(always)]
    pub fn put(&mut self, index: usize, record: &'a [u8]) {
        if let Some(free) = self.0.get_mut(index) {
            *free = MaybeUninit::new(record.into());
        }
    }

    /// Returns the first `count` records.
    ///
    /// # Safety
    /// `put` has stored a record at each index below `count`.
    #[inline(always)]
    pub unsafe fn first(&self, count: usize) -> &[Span<'a>] {
        let count = count.min(Spans::MOST);
        // SAFETY: see above.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), count) }
    }
}
