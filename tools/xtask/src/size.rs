//! Limits on the size and the dependencies of released binaries.

use std::path::Path;

/// Size limit of the stripped library: 1 MiB.
const MAX_BYTES: u64 = 1 << 20;

/// Size limit of the stripped compiler. It runs clang and does not contain it.
const MAX_ECC: u64 = 5_000_000;

/// Size limit of the stripped ecli, with TLS, registries and symbol lookup.
const MAX_ECLI: u64 = 8_000_000;

/// Size limit of the stripped exporter, with TLS, registries and the messages of OpenTelemetry.
const MAX_EXPORTER: u64 = 8_000_000;

/// Additional bytes if std is linked as distributed, because its sources are not installed.
const LARGE_STD: u64 = 300_000;

/// The permitted dependencies. All of them are part of any glibc system.
const MAY_NEED: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

/// Prints the size and dependencies of `library`, which may also be a tool. Fails above a limit.
pub fn check(library: &str) -> Result<(), String> {
    let bytes = std::fs::metadata(library).map_err(|error| format!("{library}: {error}"))?.len();
    let needed = needed(library)?;
    let (limit, std) = if library.ends_with("/ecc") {
        (MAX_ECC, "")
    } else if library.ends_with("/ecli") {
        (MAX_ECLI, "")
    } else if library.ends_with("/eunomia-exporter") {
        (MAX_EXPORTER, "")
    } else if has_std_sources()? {
        (MAX_BYTES, "")
    } else {
        (MAX_BYTES + LARGE_STD, ", with the precompiled std: rustup component add rust-src makes it smaller")
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
