//! Names that would leave their directory, counts that would take too much time or memory, and the number of
//! descriptors of a package.

use std::fmt::Write;
use std::process::Command;

use eunomia::{Error, Kind, Options, Status, Subject, Vm};

use crate::fixture::{Clean, PINNED, edited, object, package, refused, with_object};
use crate::needs_root;
use crate::support::{kernel::descriptors, opened, vm, vm_with};

/// Replaces each `from` with `to`, which is padded with NULs.
fn replaced(bytes: &[u8], from: &[u8], to: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut to = to.as_bytes().to_vec();
    to.resize(from.len(), 0);
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(&to);
        }
    }
    bytes
}

/// Opens an object that clang compiles from a source, without `ecc`.
fn open_source(source: &str) -> Result<Vm, Error> {
    let directory = tempfile::tempdir().unwrap();
    let (file, object) = (directory.path().join("p.bpf.c"), directory.path().join("p.o"));
    std::fs::write(&file, source).unwrap();
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-g", "-target", "bpf", "-c"]).arg(&file).arg("-o").arg(&object);
    assert!(clang.status().unwrap().success());
    let vm = vm();
    vm.open_object(&std::fs::read(object).unwrap(), None).map(|_| vm)
}

#[test]
fn a_map_is_pinned_only_in_the_pin_directory() {
    let package = package(PINNED);
    for name in ["../../escape", "sub/folder12", "/etc/passwd1", "..", ".", "a/../../bcde"] {
        let bad = with_object(&package, &replaced(&object(&package), b"PPPPPPPPPPPP", name));
        let bad = edited(&bad, |document| {
            let text = document["meta"].to_string().replace("PPPPPPPPPPPP", name);
            document["meta"] = serde_json::from_str(&text).unwrap();
        });
        let (vm, _log) = vm_with(Options::new().pin_path("/sys/fs/bpf/eunomia-none"));
        let error = refused(vm.open(&bad, Kind::Json), Status::Package, &["pinned", name]);
        assert_eq!(error.subject(), Some(&Subject::Map(name.into())));
    }
    // Dots inside a name are harmless.
    let dotted = with_object(&package, &replaced(&object(&package), b"PPPPPPPPPPPP", "a..b"));
    assert!(vm().open(&dotted, Kind::Json).is_ok());
}

#[test]
fn an_object_that_would_keep_libbpf_busy_is_refused() {
    let externs = |count: usize| {
        let mut source = String::from("__attribute__((section(\"license\"), used)) char l[] = \"GPL\";\n");
        for index in 0..count {
            let _ = writeln!(source, "extern int e{index} __attribute__((section(\".ksyms\"), weak));");
        }
        for first in (0..count).step_by(20) {
            let sum: String = (first..first + 20).map(|index| format!("+ (long)&e{index}")).collect();
            let start = "__attribute__((section(\"raw_tp/sys_enter\"), used)) long";
            let _ = writeln!(source, "{start} p{first}(void *ctx) {{ return 0 {sum}; }}");
        }
        source
    };
    open_source(&externs(200)).unwrap();
    let vm = open_source(&externs(16_000));
    refused(vm.map(|_| ()), Status::Package, &["too many symbols"]);
}

#[test]
fn an_object_has_the_same_limits_as_a_package() {
    let mut source = String::from("__attribute__((section(\"license\"), used)) char l[] = \"GPL\";\n");
    for index in 0..4097 {
        let _ = writeln!(
            source,
            "__attribute__((section(\"raw_tp/s\"), used)) int p{index}(void *c) {{ return 0; }}"
        );
    }
    let error = open_source(&source).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "object: 4097 programs, and at most 4096 are supported");
    let mut source = String::from("__attribute__((section(\"license\"), used)) char l[] = \"GPL\";\n");
    for index in 0..4097 {
        let _ = writeln!(
            source,
            "struct {{ int (*type)[2]; int (*max_entries)[1]; int *key; int *value; }} m{index} \
             __attribute__((section(\".maps\"), used));"
        );
    }
    let error = open_source(&source).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "object: 4097 maps, and at most 4096 are supported");
}

#[test]
fn a_program_takes_one_descriptor() {
    needs_root!();
    const PROGRAMS: usize = 40;
    let mut source = String::from(
        "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n",
    );
    for index in 0..PROGRAMS {
        let _ = writeln!(source, "SEC(\"raw_tp/sys_enter\") int p{index}(void *ctx) {{ return 0; }}");
    }
    let package = crate::support::package(&source);
    let clean = Clean::new();
    let vm = opened(&package);
    let before = descriptors().len();
    vm.load().unwrap();
    let programs = descriptors().values().filter(|name| name.contains("bpf-prog")).count();
    assert_eq!(programs, PROGRAMS);
    assert!(descriptors().len() - before <= PROGRAMS + 4, "{:?}", descriptors());
    // Runs are counted without further descriptors.
    assert_eq!(vm.stats().run_count, 0);
    drop(vm);
    drop(clean);
}
