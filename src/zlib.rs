//! Inflates and deflates with the zlib that libbpf links. A second implementation would add 15 kB.
#![allow(unsafe_code, reason = "calls zlib; no raw pointer leaves this file")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_void};
use std::marker::PhantomData;
use std::ptr::{null, null_mut};

const FINISH: c_int = 4;
const STREAM_END: c_int = 1;
const BUF_ERROR: c_int = -5;
const MEM_ERROR: c_int = -4;
const BEST_COMPRESSION: c_int = 9;

/// `z_stream` of zlib.h.
#[repr(C)]
struct Stream {
    next_in: *const u8,
    avail_in: c_uint,
    total_in: c_ulong,
    next_out: *mut u8,
    avail_out: c_uint,
    total_out: c_ulong,
    msg: *const c_char,
    state: *mut c_void,
    zalloc: *mut c_void,
    zfree: *mut c_void,
    opaque: *mut c_void,
    data_type: c_int,
    adler: c_ulong,
    reserved: c_ulong,
}

unsafe extern "C" {
    #[link_name = "inflateInit_"]
    fn inflate_init(stream: *mut Stream, version: *const c_char, size: c_int) -> c_int;
    #[link_name = "inflate"]
    fn inflate_on(stream: *mut Stream, flush: c_int) -> c_int;
    #[link_name = "inflateEnd"]
    fn inflate_end(stream: *mut Stream) -> c_int;
    #[link_name = "zlibVersion"]
    fn zlib_version() -> *const c_char;
    #[link_name = "compressBound"]
    fn compress_bound(len: c_ulong) -> c_ulong;
    fn compress2(out: *mut u8, out_len: *mut c_ulong, data: *const u8, len: c_ulong, level: c_int) -> c_int;
}

/// Inflates a zlib stream.
pub struct Inflater<'a> {
    // Boxed, because the state of zlib points back to it.
    stream: Box<Stream>,
    data: PhantomData<&'a [u8]>,
}

/// The result of inflating a part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The stream has ended.
    Done,
    /// The buffer is full, and there may be more data.
    Full,
    /// The data ends before the stream does.
    Truncated,
    /// The checksum at the end does not match.
    WrongChecksum,
    /// The data is not a valid zlib stream.
    Invalid,
    /// Out of memory.
    NoMemory,
}

impl<'a> Inflater<'a> {
    /// Creates an inflater for `data`, which must be shorter than 4 GiB. Returns `None` if there is no memory.
    pub fn new(data: &'a [u8]) -> Option<Inflater<'a>> {
        let stream = Stream {
            next_in: data.as_ptr(),
            avail_in: c_uint::try_from(data.len()).ok()?,
            total_in: 0,
            next_out: null_mut(),
            avail_out: 0,
            total_out: 0,
            msg: null(),
            state: null_mut(),
            zalloc: null_mut(),
            zfree: null_mut(),
            opaque: null_mut(),
            data_type: 0,
            adler: 0,
            reserved: 0,
        };
        let mut stream = Box::new(stream);
        // SAFETY: the struct has the layout of zlib.h, whose size zlib checks, and is not moved.
        let ret = unsafe { inflate_init(&mut *stream, zlib_version(), size_of::<Stream>() as c_int) };
        (ret == 0).then_some(Inflater { stream, data: PhantomData })
    }

    /// Inflates into `buffer`, which must be shorter than 4 GiB, as much as fits. Returns the number of bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) -> (usize, Progress) {
        let stream = &mut *self.stream;
        let len = c_uint::try_from(buffer.len()).unwrap_or(c_uint::MAX);
        (stream.next_out, stream.avail_out) = (buffer.as_mut_ptr(), len);
        // SAFETY: `new` initialised the stream; data and buffer are valid during the call and have the lengths in it.
        let ret = unsafe { inflate_on(stream, FINISH) };
        let progress = match ret {
            STREAM_END => Progress::Done,
            BUF_ERROR | 0 if stream.avail_out == 0 => Progress::Full,
            BUF_ERROR | 0 => Progress::Truncated,
            MEM_ERROR => Progress::NoMemory,
            _ if has_message(stream, c"incorrect data check") => Progress::WrongChecksum,
            _ => Progress::Invalid,
        };
        ((len - stream.avail_out) as usize, progress)
    }
}

/// Whether zlib reports this message.
fn has_message(stream: &Stream, message: &CStr) -> bool {
    // SAFETY: the message is null or a string constant of zlib.
    !stream.msg.is_null() && unsafe { CStr::from_ptr(stream.msg) } == message
}

impl Drop for Inflater<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` initialised the stream.
        unsafe { inflate_end(&mut *self.stream) };
    }
}

/// Deflates `data` with the best compression.
pub fn deflate(data: &[u8]) -> Vec<u8> {
    // SAFETY: `compressBound` only computes; `stream` has the length that `compress2` gets.
    unsafe {
        let mut len = compress_bound(data.len() as c_ulong);
        let mut stream = vec![0; len as usize];
        compress2(stream.as_mut_ptr(), &mut len, data.as_ptr(), data.len() as c_ulong, BEST_COMPRESSION);
        stream.truncate(len as usize);
        stream
    }
}
