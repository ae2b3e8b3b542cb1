//! Untrusted packages: refused, or read, written and read again unchanged.
#![no_main]

use eunomia::package::{Package, args};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let package = match kind % 3 {
        0 => Package::parse(data),
        1 => Package::from_object(data, None),
        _ => match std::str::from_utf8(data) {
            Ok(text) => Package::from_object(fuzz::OBJECT, Some(text)),
            Err(_) => return,
        },
    };
    let Ok(package) = package else { return };
    let written = package.to_json();
    let again = Package::parse(&written).expect("what was written is read");
    assert_eq!(String::from_utf8_lossy(&again.to_json()), String::from_utf8_lossy(&written));
    assert_eq!(again.object, package.object);
    args::help(&package.meta, &args::specs(&package.meta), "fuzz");
    args::version(&package.meta);
});
