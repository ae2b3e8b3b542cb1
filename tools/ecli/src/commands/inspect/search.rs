//! Searches memory for packages and BPF objects.

use eunomia::package::Package;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::package::object;
use crate::error::Failure;

/// Packages and objects that are shown.
const MAX_PACKAGES: usize = 256;
/// Bytes that are read in search of packages: so many times those of the module, and at least.
const MAX_READS: usize = 16;
const LEAST_READS: usize = 16 << 20;

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
    /// A search in a module of that many bytes.
    pub fn new(module_len: usize) -> Search {
        Search { found: Vec::new(), left: (MAX_READS * module_len).max(LEAST_READS), is_cut: false }
    }

    /// Looks at each place at which a package or an object can begin.
    pub fn scan(&mut self, memory: &[u8]) {
        for (place, byte) in memory.iter().enumerate() {
            let rest = &memory[place..];
            match byte {
                b'{' if begins_object(rest) => self.text(rest),
                0x7f if rest.starts_with(b"\x7fELF") => self.object(rest),
                _ => {}
            }
        }
    }

    /// A JSON text, with whatever follows it.
    fn text(&mut self, rest: &[u8]) {
        if self.is_over() {
            return;
        }
        let mut texts = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        let (read, is_whole) = match texts.next() {
            Some(Ok(_)) => (texts.byte_offset(), true),
            Some(Err(e)) => (place_of(&e, rest), false),
            None => (0, false),
        };
        self.spend(read);
        if is_whole && let Ok(package) = Package::parse(&rest[..read]) {
            self.add(&package);
        }
    }

    /// An object without a package around it.
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

/// Whether this can be the beginning of a JSON object with a member.
fn begins_object(rest: &[u8]) -> bool {
    rest[1..].iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'"')
}

/// How far a JSON text was read before it turned out to be none.
fn place_of(error: &serde_json::Error, text: &[u8]) -> usize {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.by_ref().take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    before + error.column()
}
