//! The headers a program includes as `<bpf/...>`: those of the libbpf that this compiler is built with.

use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::error::Result;

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
const COUNT_LOST: &[u8] = include_bytes!("../include/count_lost.h");

/// Whether `file` is one of libbpf's headers, this one's or another's.
pub fn is_libbpf(file: &Path) -> bool {
    LIBBPF.iter().any(|(name, _)| file.ends_with(name))
}

/// The folders to search.
pub struct Headers {
    /// libbpf's headers.
    pub libbpf: PathBuf,
    /// The header that counts lost events.
    pub count_lost: PathBuf,
}

impl Headers {
    /// Unpacks the headers.
    pub fn unpack(cache: &Cache) -> Result<Headers> {
        for (name, content) in LIBBPF {
            cache.keep(&format!("libbpf/bpf/{name}"), content)?;
        }
        cache.keep("count-lost/bpf/bpf_helpers.h", COUNT_LOST)?;
        Ok(Headers { libbpf: cache.root().join("libbpf"), count_lost: cache.root().join("count-lost") })
    }
}
