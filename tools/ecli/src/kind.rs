//! What kind of program a file is: its content decides, for a suffix may be missing or wrong.

use clap::ValueEnum;

/// What a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A JSON package.
    Json,
    /// A tar archive with a package and BTF files for kernels that have none.
    Tar,
    /// A WASM module.
    Wasm,
    /// A BPF object as clang wrote it.
    #[value(skip)]
    Object,
}

impl Kind {
    /// With its article, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Json => "a JSON package",
            Kind::Tar => "a tar archive",
            Kind::Wasm => "a WASM module",
            Kind::Object => "an ELF file",
        }
    }
}

/// Whether it is the source of a program, which people name where its package is wanted.
fn looks_like_c(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    [&b"#include"[..], b"#define", b"//", b"/*"].iter().any(|first| start.starts_with(first))
}

/// What the bytes are, or why they are nothing that runs.
pub fn kind_of(bytes: &[u8]) -> Result<Kind, String> {
    const USTAR: std::ops::Range<usize> = 257..262;
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let looks_compressed = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"PK\x03\x04"];
    match bytes {
        _ if first.is_none() => Err("empty; a package, a WASM module or a tar archive is wanted".into()),
        _ if bytes.starts_with(b"\0asm") => Ok(Kind::Wasm),
        _ if bytes.starts_with(b"\x7fELF") => Ok(Kind::Object),
        _ if bytes.get(USTAR) == Some(b"ustar") => Ok(Kind::Tar),
        _ if first == Some(&b'{') => Ok(Kind::Json),
        _ if looks_compressed.iter().any(|magic| bytes.starts_with(magic)) => {
            Err("compressed; unpack it first".into())
        }
        _ if looks_like_c(bytes) => Err("C source; ecc compiles it to a package".into()),
        _ => {
            let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let start = &line[..line.len().min(32)];
            Err(format!(
                "neither a package nor a WASM module nor a tar archive; it begins with \"{}\"",
                start.escape_ascii()
            ))
        }
    }
}
