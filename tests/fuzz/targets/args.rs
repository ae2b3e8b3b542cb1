//! Command lines, one argument per line, for the metadata before a line `--`.
#![no_main]

use eunomia::package::{Package, args};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (meta, argv) = text.split_once("\n--\n").unwrap_or(("{}", text));
    let Ok(package) = Package::from_object(fuzz::OBJECT, Some(meta)) else { return };
    let (specs, argv) = (args::specs(&package.meta), argv.lines().map(str::to_owned).collect::<Vec<_>>());
    let _ = args::parse(&specs, &argv);
    args::help(&package.meta, &specs, argv.first().map_or("", |name| name));
});
