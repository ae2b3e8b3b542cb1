//! The layout of raw records that are stored one after the other: `eunomia_record` of the C interface, the record, its key.

/// The length of the header: size, len, key_len and cpu, four bytes each.
pub const HEADER: usize = 16;

/// The records that were stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packed {
    /// The number of records.
    pub count: usize,
    /// The bytes that they use.
    pub used: usize,
    /// The bytes that each of them uses if that is the same for all, else 0.
    pub stride: usize,
    /// The size of the records as the kernel wrote them.
    pub bytes: usize,
    /// The bytes that the next record needs if it did not fit; else 0.
    pub missing: usize,
}

/// Stores `count` records of `len` bytes without keys at the beginning of `space`, as many as fit, and returns their number.
/// `record` returns a record by its index.
#[inline(always)]
pub fn pack<'a>(space: &mut [u8], len: usize, count: usize, record: impl Fn(usize) -> &'a [u8]) -> usize {
    let header = header(HEADER + padded(len), len, 0, -1);
    // Each method of copying has its own loop, so that the method is chosen only once.
    match len {
        8..=16 => pack_by(space, header, count, record, copy_ends::<8>),
        17..=32 => pack_by(space, header, count, record, copy_ends::<16>),
        33..=64 => pack_by(space, header, count, record, copy_ends::<32>),
        _ => pack_by(space, header, count, record, |to, from| to.copy_from_slice(from)),
    }
}

#[inline(always)]
fn pack_by<'a>(
    mut space: &mut [u8],
    header: [u8; HEADER],
    count: usize,
    record: impl Fn(usize) -> &'a [u8],
    copy: impl Fn(&mut [u8], &[u8]),
) -> usize {
    for index in 0..count {
        let data = record(index);
        let size = HEADER + padded(data.len());
        if size > space.len() {
            return index;
        }
        let (to, rest) = std::mem::take(&mut space).split_at_mut(size);
        write(to, header, data, &copy);
        space = rest;
    }
    count
}

/// Returns the stride of records after one more of `size` bytes: `stride` if it still applies, else 0. `index` is the
/// number of records before it.
#[inline(always)]
pub fn stride_with(stride: usize, index: usize, size: usize) -> usize {
    match index {
        0 => size,
        _ if size == stride => stride,
        _ => 0,
    }
}

/// Stores a record and its key in `to`, which has exactly the size for both.
pub fn pack_one(to: &mut [u8], cpu: i32, key: &[u8], data: &[u8]) {
    let header = header(to.len(), data.len(), key.len(), cpu);
    let (to, key_space) = to.split_at_mut(HEADER + padded(data.len()));
    write(to, header, data, <[u8]>::copy_from_slice);
    let (to, padding) = key_space.split_at_mut(key.len());
    to.copy_from_slice(key);
    padding.fill(0);
}

/// Returns the header of a record.
#[inline(always)]
pub fn header(size: usize, len: usize, key_len: usize, cpu: i32) -> [u8; HEADER] {
    // A loop over the words, compiled for size, takes longer than copying a short record.
    let [a, b, c, d] = (size as u32).to_ne_bytes();
    let [e, f, g, h] = (len as u32).to_ne_bytes();
    let [i, j, k, l] = (key_len as u32).to_ne_bytes();
    let [m, n, o, p] = cpu.to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Writes header, data and padding of a record.
#[inline(always)]
fn write(to: &mut [u8], header: [u8; HEADER], data: &[u8], copy: impl Fn(&mut [u8], &[u8])) {
    if let Some((space, to)) = to.split_first_chunk_mut::<HEADER>() {
        *space = header;
        if let Some(last) = to.last_chunk_mut::<8>().filter(|_| data.len() % 8 > 0) {
            *last = [0; 8];
        }
        copy(&mut to[..data.len()], data);
    }
}

/// Returns `len` rounded up to a multiple of 8. `next_multiple_of` becomes several times as many instructions when it is compiled
/// for size.
#[inline(always)]
pub fn padded(len: usize) -> usize {
    (len + 7) & !7
}

/// Copies N to 2 N bytes as two parts, which may overlap. For a short record a call of memcpy takes longer than the copy.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}
