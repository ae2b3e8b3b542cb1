//! `ecli inspect` of WASM modules: packages and objects are found anywhere in memory, and the report says what it may
//! have missed.

mod support;

use std::fmt::Write;
use std::sync::OnceLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use support::{compile, run};

const LOADER: &str = "(import \"env\" \"create_bpf\" (func (param i32 i32) (result i32)))";
const SIGNALS: &str = "sends signals to processes";

const EVIL: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp/syscalls/sys_enter_getpgid")
int evil(void *ctx) {
    bpf_send_signal(28);
    return 0;
}
"#;

const DECOY: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp/syscalls/sys_enter_getpgid")
int decoy(void *ctx) { return 0; }
"#;

struct Made {
    package: Vec<u8>,
    object: Vec<u8>,
}

fn made(source: &str) -> Made {
    let folder = compile(source);
    let read = |name| std::fs::read(folder.path().join(name)).expect("ecc wrote it");
    Made { package: read("package.json"), object: read("test.bpf.o") }
}

fn evil() -> &'static Made {
    static EVIL_MADE: OnceLock<Made> = OnceLock::new();
    EVIL_MADE.get_or_init(|| made(EVIL))
}

/// Data at an address in the memory, or without an address.
fn data(at: Option<u64>, bytes: &[u8]) -> String {
    let mut text = bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    });
    let place = at.map_or_else(String::new, |at| format!("(i32.const {at})"));
    text.insert_str(0, &format!("(data {place} \""));
    text + "\")"
}

/// The report of a module with these imports and this data.
fn report(imports: &str, data: &[String]) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("app.wasm");
    let text = format!(
        "(module {imports} (memory (export \"memory\") 256) {} (func (export \"_start\")))",
        data.join(" ")
    );
    std::fs::write(&path, wat::parse_str(text).expect("a module")).expect("the module is written");
    let ran = run(&["inspect", "--json", path.to_str().expect("UTF-8")]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    serde_json::from_str(&ran.out).expect("JSON")
}

/// The number of packages in the report that send signals.
fn signals(report: &Value) -> usize {
    let packages = report["packages"].as_array().expect("packages").iter();
    let programs = packages.flat_map(|package| package["programs"].as_array().into_iter().flatten());
    programs.filter(|program| program["effects"] == json!([SIGNALS])).count()
}

fn said(report: &Value) -> String {
    report["unseen"].to_string()
}

#[test]
fn a_package_is_found_in_every_dress() {
    let package: Value = serde_json::from_slice(&evil().package).expect("JSON");
    let text = String::from_utf8(evil().package.clone()).expect("UTF-8");
    let object = BASE64_STANDARD.encode(&evil().object);
    let old = json!({
        "data": object, "data_sz": evil().object.len(), "maps": [], "ebpf_name": "evil",
        "progs": [{ "name": "evil", "type": "tp/syscalls/sys_enter_getpgid" }],
    });
    for (what, dressed) in [
        ("as ecc writes it", text.clone()),
        ("a blank after the brace", text.replacen('{', "{ ", 1)),
        ("line ends and tabs after the brace", text.replacen('{', "{\r\n\t \n", 1)),
        ("laid out", serde_json::to_string_pretty(&package).expect("JSON")),
        ("keys with escapes", text.replace("\"bpf_object\"", "\"bpf_\\u006fbject\"")),
        ("the oldest layout", old.to_string()),
        ("text before and behind it", format!("usage: %s [{{}}] {{\"{text}}}\n")),
        ("inside another value", format!("{{\"config\": [1, {text}], \"x\": {{}}}}")),
        ("after one that never ends", format!("{{\"a\": [{{\"b\": \"{text}")),
    ] {
        let found = report(LOADER, &[data(Some(1024), dressed.as_bytes())]);
        assert_eq!(signals(&found), 1, "{what}: {found}");
    }
}

#[test]
fn a_package_is_found_however_the_data_is_cut() {
    let Made { package, object } = evil();
    let half = package.len() / 2;
    let (first, second) = package.split_at(half);
    let mut spoiled = package.clone();
    spoiled[..half].fill(b'x');
    for (what, pieces) in [
        ("one piece", vec![data(Some(64), package)]),
        ("two that follow each other", vec![data(Some(64), first), data(Some(64 + half as u64), second)]),
        ("the second one first", vec![data(Some(64 + half as u64), second), data(Some(64), first)]),
        ("written over a decoy", vec![data(Some(64), &spoiled), data(Some(64), first)]),
        (
            "a piece in the midst of zeros",
            vec![data(Some(64), &vec![0; 2 * package.len()]), data(Some(100), package)],
        ),
        ("a piece without a place", vec![data(None, package)]),
        ("an object", vec![data(Some(64), object)]),
        (
            "an object among other bytes",
            vec![data(Some(64), &[b"\x7fELF{\"", &object[..], b"more"].concat())],
        ),
        ("an object without a place", vec![data(None, object)]),
    ] {
        let found = report(LOADER, &pieces);
        assert_eq!(signals(&found), 1, "{what}: {found}");
    }
    // Tools leave zeros out of an object.
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < object.len() {
        let zeros = object[at..].iter().take_while(|byte| **byte == 0).count();
        let rest = &object[at + zeros..];
        let len =
            rest.windows(16).position(|window| window.iter().all(|byte| *byte == 0)).unwrap_or(rest.len());
        pieces.push(data(Some(64 + (at + zeros) as u64), &rest[..len]));
        at += zeros + len;
    }
    assert!(pieces.len() > 3, "the object has zeros");
    assert_eq!(signals(&report(LOADER, &pieces)), 1);
}

#[test]
fn decoys_hide_no_package_and_a_cut_list_is_reported() {
    let decoy = made(DECOY).package;
    let behind = |count: usize| {
        let mut memory = [&decoy[..], b"\0"].concat().repeat(count);
        memory.extend(&evil().package);
        report(LOADER, &[data(Some(64), &memory)])
    };
    let found = behind(65);
    assert_eq!((found["packages"].as_array().map(Vec::len), signals(&found)), (Some(66), 1));
    assert!(!said(&found).contains("more than is shown"), "{}", said(&found));
    let found = behind(300);
    assert_eq!(signals(&found), 0);
    assert!(
        said(&found).contains("contains more than is shown here: 256 packages were read"),
        "{}",
        said(&found)
    );
}

#[test]
fn a_module_that_loads_programs_could_load_others() {
    let without = report("", &[data(Some(64), &evil().package)]);
    assert_eq!((signals(&without), without["unseen"].clone()), (1, json!([])));
    for (module, name, parameters) in [
        ("env", "create_bpf", "(param i32 i32) (result i32)"),
        ("wasm_bpf", "wasm_load_bpf_object", "(param i32 i32) (result i64)"),
        ("env", "wasm_load_bpf_object", "(param i32 i32) (result i64)"),
    ] {
        let import = format!("(import \"{module}\" \"{name}\" (func {parameters}))");
        let found = report(&import, &[]);
        let expected = format!("could: load programs not shown here ({module}.{name})");
        assert_eq!(found["unseen"], json!([expected]));
        assert_eq!(found["packages"], json!([]));
    }
}

#[test]
fn reading_text_like_packages_is_bounded_and_reported() {
    // Each brace could begin a package that extends to the end, and none of these packages is complete.
    for (text, is_cut) in [("{\"a\":[", true), ("{\"a\":", true), ("{\"", false), ("\x7fELF", false)] {
        let memory = text.repeat((1 << 20) / text.len());
        let found = report(LOADER, &[data(Some(64), memory.as_bytes())]);
        assert_eq!(found["packages"], json!([]), "{text}");
        assert_eq!(said(&found).contains("more than is shown"), is_cut, "{text}: {}", said(&found));
    }
}
