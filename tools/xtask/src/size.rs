//! The limits of what is shipped: how large it may be and what it may need at run time.

use std::path::Path;

/// Bytes that the stripped library may have.
const MAX_BYTES: u64 = 1_025_000;

/// Bytes that the stripped compiler may have: it runs clang and has nothing of it inside.
const MAX_ECC: u64 = 5_000_000;

/// Bytes that the stripped ecli may have, with TLS, registries and symbols of stacks.
const MAX_ECLI: u64 = 8_000_000;

/// Bytes more that are allowed where std is linked as it comes, because its sources are not installed.
const LARGE_STD: u64 = 300_000;

/// The only libraries it may need, so none of LLVM's; all of them are part of any glibc system.
const MAY_NEED: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

/// Prints the size of `library`, which may be a tool too, and what it needs; an error where a limit is passed.
pub fn check(library: &str) -> Result<(), String> {
    let bytes = std::fs::metadata(library).map_err(|error| format!("{library}: {error}"))?.len();
    let needed = needed(library)?;
    let (limit, std) = if library.ends_with("/ecc") {
        (MAX_ECC, "")
    } else if library.ends_with("/ecli") {
        (MAX_ECLI, "")
    } else if has_std_sources()? {
        (MAX_BYTES, "")
    } else {
        (MAX_BYTES + LARGE_STD, ", std as it comes: rustup component add rust-src makes it smaller")
    };
    println!("{library}: {bytes} bytes (at most {limit}{std}), needs {}", needed.join(" "));

    if bytes > limit {
        return Err(format!("{library}: {bytes} bytes are more than {limit}"));
    }
    match needed.iter().find(|name| !MAY_NEED.contains(&name.as_str())) {
        Some(name) => Err(format!("{library}: must not need {name}")),
        None => Ok(()),
    }
}

/// Whether tools/build-release.sh builds std too.
fn has_std_sources() -> Result<bool, String> {
    let sysroot = crate::output("rustc", &["--print", "sysroot"])?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock").exists())
}

/// The NEEDED entries of the dynamic section.
fn needed(library: &str) -> Result<Vec<String>, String> {
    let dynamic = crate::output("readelf", &["--dynamic", "--wide", library])?;
    let entries = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    Ok(entries.filter_map(|line| Some(line.split_once('[')?.1.trim_end_matches(']').to_string())).collect())
}
