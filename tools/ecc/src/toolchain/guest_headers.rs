//! The headers that a WASM guest includes as `"eunomia-include/..."`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;
use crate::toolchain::cache::Cache;

/// The folder they are in.
pub const FOLDER: &str = "eunomia-include";

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

/// What a guest begins as.
pub const TEMPLATE: &[u8] = include_bytes!("../../include/app.c");

/// Whether the folder has headers of that name that another program has written.
pub fn is_foreign(folder: &Path) -> bool {
    let folder = folder.join(FOLDER);
    let differs =
        |(name, content): &(&str, &[u8])| fs::read(folder.join(name)).map_or(true, |file| file != *content);
    folder.exists() && HEADERS.iter().any(differs)
}

/// Keeps the headers for guests that have none of their own; returns the folder to search.
pub fn keep(cache: &Cache) -> Result<PathBuf> {
    for (name, content) in HEADERS {
        cache.keep(&format!("wasm/{FOLDER}/{name}"), content)?;
    }
    Ok(cache.root().join("wasm"))
}

/// Writes the headers into a folder of a guest.
pub fn write(folder: &Path) -> Result<()> {
    for (name, content) in HEADERS {
        let path = folder.join(FOLDER).join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|error| {
            Error::io(format_args!("cannot make the folder {}", parent.display()), &error)
        })?;
        files::write(&path, content)?;
    }
    Ok(())
}
