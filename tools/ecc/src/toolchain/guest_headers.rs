//! The headers that a WASM guest includes as `"eunomia-include/..."`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files;
use crate::toolchain::cache::Cache;

/// The directory of the headers.
pub const DIR: &str = "eunomia-include";

macro_rules! header {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../eunomia-include/", $name)).as_slice())
    };
}

const HEADERS: [(&str, &[u8]); 10] = [
    header!("argparse/argparse.c"),
    header!("argparse/argparse.h"),
    header!("batch.h"),
    header!("cJSON/cJSON.c"),
    header!("cJSON/cJSON.h"),
    header!("entry.h"),
    header!("helpers.h"),
    header!("libbpf-wasm.h"),
    header!("native-ewasm.h"),
    header!("wasm-app.h"),
];

/// The source of a new guest.
pub const TEMPLATE: &[u8] = include_bytes!("../../include/app.c");

/// Whether the headers in the directory of a guest differ from these.
pub fn are_foreign(guest: &Path) -> bool {
    let dir = guest.join(DIR);
    let differs =
        |(name, content): &(&str, &[u8])| fs::read(dir.join(name)).map_or(true, |file| file != *content);
    dir.exists() && HEADERS.iter().any(differs)
}

/// Writes the headers to the cache, for guests without their own. Returns the directory to search.
pub fn unpack(cache: &Cache) -> Result<PathBuf> {
    for (name, content) in HEADERS {
        cache.write(&format!("wasm/{DIR}/{name}"), content)?;
    }
    Ok(cache.root().join("wasm"))
}

/// Writes the headers to the directory of a guest.
pub fn write(guest: &Path) -> Result<()> {
    for (name, content) in HEADERS {
        let path = guest.join(DIR).join(name);
        files::create_dir(files::directory_of(&path))?;
        files::write(&path, content)?;
    }
    Ok(())
}
