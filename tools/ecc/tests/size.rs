//! The size of the example packages.

use std::fs;
use std::path::Path;

/// The limit, in bytes.
const MAX_PACKAGE: u64 = 60_000;

#[test]
fn every_example_package_is_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut packages = 0;
    for dir in fs::read_dir(root.join("examples/bpf")).unwrap().map(|entry| entry.unwrap().path()) {
        if !dir.is_dir() {
            continue;
        }
        let package = root.join("target/packages").join(dir.file_name().unwrap()).join("package.json");
        assert!(package.exists(), "{} is missing: run `make packages` first", package.display());
        let bytes = fs::metadata(&package).unwrap().len();
        assert!(bytes <= MAX_PACKAGE, "{}: {bytes} bytes", package.display());
        packages += 1;
    }
    assert!(packages >= 11, "{packages} examples");
}
