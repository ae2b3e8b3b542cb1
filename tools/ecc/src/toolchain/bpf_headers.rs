//! The headers that a program includes as `<bpf/...>`: those of the libbpf that ecc is built with.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::toolchain::cache::Cache;

macro_rules! libbpf {
    ($name:literal) => {
        ($name, include_bytes!(concat!(env!("LIBBPF_INCLUDE"), "/", $name)).as_slice())
    };
}

const LIBBPF: [(&str, &[u8]); 6] = [
    libbpf!("bpf_helpers.h"),
    libbpf!("bpf_helper_defs.h"),
    libbpf!("bpf_tracing.h"),
    libbpf!("bpf_core_read.h"),
    libbpf!("bpf_endian.h"),
    libbpf!("usdt.bpf.h"),
];

/// Wraps libbpf's `bpf_helpers.h`. It is in a directory of its own that is searched first.
const WRAPPER: &[u8] = include_bytes!("../../include/bpf_helpers.h");

/// If this macro is defined, the wrapper counts the events that a full ring buffer drops.
pub const COUNT_LOST: &str = "__EUNOMIA_COUNT_LOST";

/// Headers that glibc's `<errno.h>` and others include on an architecture that they do not know, such as BPF. They are
/// missing unless packages for 32-bit programs are installed. They are searched last: the system's own take precedence.
const STUBS: [&str; 4] = ["stubs-32.h", "stubs-lp64.h", "stubs-lp64d.h", "stubs-soft.h"];

/// Whether `file` is one of libbpf's headers, of this version or another.
pub fn is_libbpf(file: &Path) -> bool {
    LIBBPF.iter().any(|(name, _)| file.ends_with(name))
}

/// The directories with headers.
pub struct Headers {
    /// libbpf's headers.
    pub libbpf: PathBuf,
    /// The wrapper, searched before libbpf's headers.
    pub wrapper: PathBuf,
    /// Searched after the system's directories.
    pub fallback: PathBuf,
}

impl Headers {
    /// Writes the headers to the cache.
    pub fn unpack(cache: &Cache) -> Result<Headers> {
        for (name, content) in LIBBPF {
            cache.write(&format!("libbpf/bpf/{name}"), content)?;
        }
        cache.write("wrapper/bpf/bpf_helpers.h", WRAPPER)?;
        for name in STUBS {
            cache
                .write(&format!("fallback/gnu/{name}"), b"/* BPF calls no function of the C library. */\n")?;
        }
        let dir = |name| cache.root().join(name);
        Ok(Headers { libbpf: dir("libbpf"), wrapper: dir("wrapper"), fallback: dir("fallback") })
    }
}
