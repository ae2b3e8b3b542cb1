//! Packages with objects for several architectures, and with BTF for kernels.

use std::env::consts::ARCH;

use eunomia::error::Status;
use eunomia::package::Package;
use serde_json::{Value, json};

use crate::fixture::{elf, f2, packed, parse};

/// An architecture that this machine does not have.
const OTHER: &str = if cfg!(target_arch = "riscv64") { "x86_64" } else { "riscv64" };

/// Returns an entry of `other_objects` whose object ends in `mark`.
fn entry(arch: &str, mark: u8) -> Value {
    let mut object = elf();
    object.push(mark);
    let (text, len) = (packed(&object), object.len());
    json!({ "arch": arch, "bpf_object": text, "bpf_object_size": len, "meta": { "bpf_skel": { "obj_name": arch } } })
}

/// Returns a package for several architectures, the first of which is at the top.
fn for_machines(first: &str, others: &[&str]) -> Value {
    let mut document = f2(json!({ "bpf_skel": { "obj_name": "top" } }));
    document["arch"] = first.into();
    document["other_objects"] = others
        .iter()
        .enumerate()
        .map(|(index, arch)| entry(arch, index as u8 + 1))
        .collect::<Vec<_>>()
        .into();
    document
}

#[test]
fn the_object_for_this_machine_is_used() {
    let top = parse(&for_machines(ARCH, &[OTHER, ARCH]));
    assert_eq!((top.meta.obj_name.as_str(), top.object.len()), ("top", elf().len()));
    let second = parse(&for_machines(OTHER, &["s390x", ARCH]));
    assert_eq!(second.meta.obj_name.as_str(), ARCH);
    assert_eq!(second.object.last(), Some(&2));
    let none = for_machines(OTHER, &["s390x"]);
    let error = Package::parse(none.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.status(), Status::Unsupported);
    let names = format!("the package has objects for {OTHER}, s390x, and none for this machine");
    assert!(error.message().contains(&names), "{error}");
}

#[test]
fn a_package_says_whether_it_has_btf_for_kernels() {
    let mut document = f2(json!({ "bpf_skel": {} }));
    assert!(!parse(&document).has_kernel_btf());
    document["kernel_btf"] = json!({ "types": [], "kernels": {} });
    assert!(parse(&document).has_kernel_btf());
}
