//! Options and results of downloads.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// Size limit of a downloaded program.
pub const MAX_BYTES: usize = 128 << 20;

/// Size limit of a signature.
pub const MAX_SIGNATURE: usize = 16 << 10;

/// The options of a download.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether cached downloads are neither used nor written.
    pub no_cache: bool,
    /// Idle timeout. All requests together may take `http::MAX_TIMEOUTS` times as long.
    pub timeout: Duration,
    /// The treatment of the signature.
    pub signature: Signature,
}

/// The treatment of the signature of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// It is not downloaded.
    Ignored,
    /// It is downloaded and saved.
    Saved,
    /// It is downloaded and verified.
    Verified,
}

/// A downloaded program.
pub struct Download {
    /// The program.
    pub bytes: Vec<u8>,
    /// The signature; `None` if there is none or it was ignored.
    pub signature: Option<String>,
}

/// SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
