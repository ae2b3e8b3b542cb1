//! Searches memory for packages and BPF objects.

use eunomia::package::Package;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::package::object;
use crate::error::Failure;

/// Limit on the packages and objects shown.
const MAX_PACKAGES: usize = 256;
/// Limit on the bytes read: this many times the size of the module, but at least `MIN_BYTES`.
const MAX_FACTOR: usize = 16;
const MIN_BYTES: usize = 16 << 20;

/// The search for packages and objects.
pub struct Search {
    /// Descriptions of what has been found.
    pub found: Vec<Value>,
    /// Bytes that may still be read.
    left: usize,
    /// Whether it ended before everything was read.
    pub is_cut: bool,
}

impl Search {
    /// A search in a module of `module_len` bytes.
    pub fn new(module_len: usize) -> Search {
        Search { found: Vec::new(), left: (MAX_FACTOR * module_len).max(MIN_BYTES), is_cut: false }
    }

    /// Tries each offset at which a package or an object may begin.
    pub fn scan(&mut self, memory: &[u8]) {
        for (offset, byte) in memory.iter().enumerate() {
            let rest = &memory[offset..];
            match byte {
                b'{' if begins_object(rest) => self.text(rest),
                0x7f if rest.starts_with(b"\x7fELF") => self.object(rest),
                _ => {}
            }
        }
    }

    /// Tries a JSON package at the start of `rest`.
    fn text(&mut self, rest: &[u8]) {
        if self.is_over() {
            return;
        }
        let mut texts = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        let (read, is_whole) = match texts.next() {
            Some(Ok(_)) => (texts.byte_offset(), true),
            Some(Err(e)) => (offset_of(&e, rest), false),
            None => (0, false),
        };
        self.spend(read);
        if is_whole && let Ok(package) = Package::parse(&rest[..read]) {
            self.add(&package);
        }
    }

    /// Tries a BPF object without a package at the start of `rest`.
    fn object(&mut self, rest: &[u8]) {
        let Some(len) = eunomia_effects::object_len(rest).filter(|_| !self.is_over()) else { return };
        self.spend(len);
        if let Ok(package) = Package::from_object(&rest[..len], None) {
            self.add(&package);
        }
    }

    fn add(&mut self, package: &Package) {
        let failed = |failure: Failure| json!({ "bytes": package.object.len(), "error": failure.text() });
        self.found.push(object(package).unwrap_or_else(failed));
    }

    fn is_over(&mut self) -> bool {
        self.is_cut |= self.left == 0 || self.found.len() >= MAX_PACKAGES;
        self.is_cut
    }

    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// Whether a JSON object with a member may begin here.
fn begins_object(rest: &[u8]) -> bool {
    rest[1..].iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'"')
}

/// The offset of a JSON syntax error.
fn offset_of(error: &serde_json::Error, text: &[u8]) -> usize {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.by_ref().take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    before + error.column()
}
