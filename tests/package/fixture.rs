//! Small packages for the tests.

use base64::prelude::{BASE64_STANDARD, Engine};
use eunomia::error::Status;
use eunomia::package::Package;
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::{Value, json};

/// Returns an ELF header that is accepted as an object, followed by data to compress.
pub fn elf() -> Vec<u8> {
    let mut object = vec![0_u8; 200];
    object[..6].copy_from_slice(b"\x7fELF\x02\x01");
    object[5] = if cfg!(target_endian = "little") { 1 } else { 2 };
    object[18..20].copy_from_slice(&247_u16.to_ne_bytes());
    object[64..96].copy_from_slice(b"programs, maps, types, variables");
    object
}

pub fn packed(object: &[u8]) -> String {
    BASE64_STANDARD.encode(compress_to_vec_zlib(object, 6))
}

/// Returns a package of layout F2 with this `meta` object.
pub fn f2(meta: Value) -> Value {
    json!({ "bpf_object": packed(&elf()), "bpf_object_size": elf().len(), "meta": meta })
}

/// Returns a package of layout F2 with this `bpf_skel` object.
pub fn f2_skel(skel: Value) -> Value {
    f2(json!({ "bpf_skel": skel }))
}

/// Returns a package of layout F1 with these members. The base64 is folded as its compiler did.
pub fn f1(rest: Value) -> Value {
    let text = BASE64_STANDARD.encode(elf());
    let lines: Vec<&str> = (0..text.len()).step_by(72).map(|at| &text[at..text.len().min(at + 72)]).collect();
    let mut document = json!({ "name": "template", "data_sz": elf().len(), "data": lines.join("\n") + "\n" });
    document.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    document
}

pub fn parse(document: &Value) -> Package {
    Package::parse(document.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}: {document}"))
}

/// Returns the error message for a package.
pub fn refusal_of(text: &[u8]) -> String {
    let error = Package::parse(text).expect_err("this should be refused");
    assert_eq!(error.status(), Status::Package, "{error}");
    assert!(!error.message().contains('\n') && !error.message().ends_with('.'), "{error}");
    error.message().to_owned()
}

pub fn refusal(document: &Value) -> String {
    refusal_of(document.to_string().as_bytes())
}
