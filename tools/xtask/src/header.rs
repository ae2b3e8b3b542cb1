//! Copies the generated C header from the build directory to include/.

use serde_json::Value;
use std::path::{Path, PathBuf};

/// The committed header.
pub const HEADER: &str = "include/eunomia.h";

/// Builds the library and copies the header that its build script generated to include/.
pub fn copy() -> Result<(), String> {
    let generated = crate::read(&output_folder()?.join("eunomia.h"))?;
    crate::write(Path::new(HEADER), &generated)
}

/// The output directory of the library's build script.
fn output_folder() -> Result<PathBuf, String> {
    let library = crate::output("cargo", &["pkgid", "--package", "eunomia"])?;
    let messages = crate::output("cargo", &["check", "--package", "eunomia", "--message-format", "json"])?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            message["reason"] == "build-script-executed" && message["package_id"] == library.trim()
        })
        .find_map(|message| message["out_dir"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo did not report where the build script wrote the header".to_string())
}
