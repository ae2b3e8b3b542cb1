//! Detects the kind of a program from its content. The suffix of its name may be missing or wrong.

use clap::ValueEnum;
use eunomia_agent::archive;

/// The kind of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A JSON package.
    Json,
    /// A tar archive with a package, and BTF files for kernels without BTF.
    Tar,
    /// A WASM module.
    Wasm,
    /// A BPF object.
    #[value(skip)]
    Object,
}

impl Kind {
    /// The kind with its article, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Json => "a JSON package",
            Kind::Tar => "a tar archive",
            Kind::Wasm => "a WASM module",
            Kind::Object => "an ELF file",
        }
    }
}

/// Whether the content is C source, which users sometimes give instead of its package.
fn looks_like_c(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    [&b"#include"[..], b"#define", b"//", b"/*"].iter().any(|first| start.starts_with(first))
}

/// Returns the kind of a program, or why the content is not a program.
pub fn kind_of(bytes: &[u8]) -> Result<Kind, String> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let looks_compressed = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"PK\x03\x04"];
    match bytes {
        _ if first.is_none() => {
            Err("empty file; expected a package, a WASM module, a tar archive or a BPF object".into())
        }
        _ if bytes.starts_with(b"\0asm") => Ok(Kind::Wasm),
        _ if bytes.starts_with(b"\x7fELF") => Ok(Kind::Object),
        _ if archive::is_archive(bytes) => Ok(Kind::Tar),
        _ if first == Some(&b'{') => Ok(Kind::Json),
        _ if looks_compressed.iter().any(|magic| bytes.starts_with(magic)) => {
            Err("compressed file; decompress it first".into())
        }
        _ if looks_like_c(bytes) => Err("C source; compile it to a package with ecc".into()),
        _ => {
            let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let start = &line[..line.len().min(32)];
            Err(format!(
                "not a package, a WASM module, a tar archive or a BPF object; it begins with \"{}\"",
                start.escape_ascii()
            ))
        }
    }
}
