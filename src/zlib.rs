//! Streams of zlib, by the zlib that libbpf brings: a second one would take 15 kB more.
#![allow(unsafe_code, reason = "the calls of zlib; nothing outside this file sees a raw pointer")]

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

/// A stream that is being inflated.
pub struct Inflater<'a> {
    // In a box: zlib's state points back to it.
    stream: Box<Stream>,
    data: PhantomData<&'a [u8]>,
}

/// Where a stream has got to.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is there.
    Done,
    /// The room is full, and perhaps there is more.
    Full,
    /// The data ends before the stream does.
    CutOff,
    /// The checksum at the end is another one than that of what came out.
    WrongChecksum,
    /// This is no stream of zlib, or not one any more.
    Damaged,
    /// Out of memory.
    NoMemory,
}

impl<'a> Inflater<'a> {
    /// Inflates `data`, of less than 4 GiB. None without memory.
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
        // SAFETY: the struct is that of zlib's header, whose size tells it apart from others, and stays where it is.
        let ret = unsafe { inflate_init(&mut *stream, zlib_version(), size_of::<Stream>() as c_int) };
        (ret == 0).then_some(Inflater { stream, data: PhantomData })
    }

    /// Inflates into `room`, of less than 4 GiB, what fits; says how much that was.
    pub fn fill(&mut self, room: &mut [u8]) -> (usize, Progress) {
        let stream = &mut *self.stream;
        let len = c_uint::try_from(room.len()).unwrap_or(c_uint::MAX);
        (stream.next_out, stream.avail_out) = (room.as_mut_ptr(), len);
        // SAFETY: `new` initialised the stream; data and room live for the call and have the lengths that it tells.
        let ret = unsafe { inflate_on(stream, FINISH) };
        let progress = match ret {
            STREAM_END => Progress::Done,
            BUF_ERROR | 0 if stream.avail_out == 0 => Progress::Full,
            BUF_ERROR | 0 => Progress::CutOff,
            MEM_ERROR => Progress::NoMemory,
            _ if says(stream, c"incorrect data check") => Progress::WrongChecksum,
            _ => Progress::Damaged,
        };
        ((len - stream.avail_out) as usize, progress)
    }
}

/// Whether that is what zlib has to say about the stream.
fn says(stream: &Stream, message: &CStr) -> bool {
    // SAFETY: null or one of zlib's own texts.
    !stream.msg.is_null() && unsafe { CStr::from_ptr(stream.msg) } == message
}

impl Drop for Inflater<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` initialised the stream.
        unsafe { inflate_end(&mut *self.stream) };
    }
}

/// A stream of `data`, as small as zlib makes it.
pub fn deflate(data: &[u8]) -> Vec<u8> {
    // SAFETY: a function of a number; then `stream` has the room that is told.
    unsafe {
        let mut len = compress_bound(data.len() as c_ulong);
        let mut stream = vec![0; len as usize];
        compress2(stream.as_mut_ptr(), &mut len, data.as_ptr(), data.len() as c_ulong, BEST_COMPRESSION);
        stream.truncate(len as usize);
        stream
    }
}
