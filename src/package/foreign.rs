//! Recognises files that are not JSON packages by their first bytes, so that an error says what the file is.

/// The first bytes of files that are not JSON.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"\0asm", "a WASM module, and this function reads only JSON packages"),
    (b"\x7fELF", "an ELF object without metadata; eunomia_open_object opens it"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"\xfd7zXZ", "an xz file; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it first"),
    (b"\xff\xfe", "UTF-16 text; packages are UTF-8"),
    (b"\xfe\xff", "UTF-16 text; packages are UTF-8"),
    (b"<", "HTML or XML, possibly the error page of a download"),
];
/// The offset of the magic number of a tar archive, and the number.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");

/// Returns the kind of file that `data` is, if it is recognised as something other than JSON; else `None`. `data` has
/// no byte order mark.
pub(super) fn kind(data: &[u8]) -> Option<&'static str> {
    let text = data.trim_ascii_start();
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| text.starts_with(magic)) {
        return Some(what);
    }
    let is_tar = data.get(TAR_MAGIC.0..).is_some_and(|rest| rest.starts_with(TAR_MAGIC.1));
    is_tar.then_some("a tar archive; open the package.json inside")
}
