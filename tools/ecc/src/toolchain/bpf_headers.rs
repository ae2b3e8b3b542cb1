//! The headers a program includes as `<bpf/...>`: those of the libbpf that this compiler is built with.

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

/// Wraps `bpf_helpers.h` without touching it: it lies in a folder of its own that is searched first.
const WRAPPER: &[u8] = include_bytes!("../../include/bpf_helpers.h");

/// Defined, the wrapper counts the events that a full ring buffer drops.
pub const COUNT_LOST: &str = "__EUNOMIA_COUNT_LOST";

/// What glibc's `<errno.h>` and the like end up including for an architecture that they do not know, as BPF is; the
/// machine has none of these unless it can build for 32 bits. Searched last, so that a real one is preferred.
const STUBS: [&str; 4] = ["stubs-32.h", "stubs-lp64.h", "stubs-lp64d.h", "stubs-soft.h"];

/// Whether `file` is one of libbpf's headers, this one's or another's.
pub fn is_libbpf(file: &Path) -> bool {
    LIBBPF.iter().any(|(name, _)| file.ends_with(name))
}

/// The folders to search.
pub struct Headers {
    /// libbpf's headers.
    pub libbpf: PathBuf,
    /// The header that stands before libbpf's.
    pub wrapper: PathBuf,
    /// What is searched after the system's folders.
    pub fallback: PathBuf,
}

impl Headers {
    /// Unpacks the headers.
    pub fn unpack(cache: &Cache) -> Result<Headers> {
        for (name, content) in LIBBPF {
            cache.keep(&format!("libbpf/bpf/{name}"), content)?;
        }
        cache.keep("wrapper/bpf/bpf_helpers.h", WRAPPER)?;
        for name in STUBS {
            cache
                .keep(&format!("fallback/gnu/{name}"), b"/* BPF calls no function of the C library. */\n")?;
        }
        let folder = |name| cache.root().join(name);
        Ok(Headers { libbpf: folder("libbpf"), wrapper: folder("wrapper"), fallback: folder("fallback") })
    }
}
