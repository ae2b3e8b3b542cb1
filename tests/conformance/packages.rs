//! The packages and guests that the table refers to.

use std::fs;
use std::path::Path;

use super::support;

/// Sources for ecc, below tests/.
const PROGRAMS: [&str; 7] = [
    "conformance/bpf/calls.bpf.c",
    "conformance/bpf/next.bpf.c",
    "conformance/bpf/sampled.bpf.c",
    "data/bpf/perf.bpf.c",
    "data/bpf/rejected.bpf.c",
    "data/bpf/runs.bpf.c",
    "data/bpf/tasks.bpf.c",
];

const GUESTS: [&str; 3] = ["hello", "loop", "trap"];

/// Puts `NAME.json`, `NAME.o` and `NAME.skel.json` of each program into `folder`, `NAME.wasm` of each guest, and
/// `garbage.json`, which is not a package.
pub fn make(folder: &Path) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    PROGRAMS.iter().for_each(|source| make_package(&tests.join(source), folder));
    for name in GUESTS {
        let text = tests.join(format!("conformance/wasm/{name}.wat"));
        let module = wat::parse_file(text).expect("the guest is valid");
        fs::write(folder.join(format!("{name}.wasm")), module).expect("a guest can be written");
    }
    fs::write(folder.join("garbage.json"), "garbage").expect("a file can be written");
}

fn make_package(source: &Path, folder: &Path) {
    let file = source.file_name().and_then(|name| name.to_str()).expect("a source has a name");
    let name = file.trim_end_matches(".bpf.c");
    let made = tempfile::tempdir().expect("a temporary folder");
    support::run_ecc(&[source], made.path());
    for (from, to) in [
        ("package.json".to_owned(), format!("{name}.json")),
        (format!("{name}.bpf.o"), format!("{name}.o")),
        (format!("{name}.skel.json"), format!("{name}.skel.json")),
    ] {
        fs::copy(made.path().join(from), folder.join(to)).expect("ecc wrote it");
    }
}
