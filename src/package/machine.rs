//! Packages with objects for several architectures: an extension of layout F2 that older readers ignore.
//!
//! `arch` is the architecture of the object in `bpf_object`. Each entry of `other_objects` is an object for another
//! architecture, with its metadata. Without `arch` the object is for every machine.

use serde_json::Value;

use super::json_value::Node;
use super::{Package, members};
use crate::error::{Error, Result, Status};

/// The names of each architecture, beginning with the one in packages and BTFHub.
const NAMES: [&[&str]; 3] = [&["x86_64", "x86", "amd64"], &["arm64", "aarch64"], &["riscv64", "riscv"]];
/// The keys that belong to an object.
const OBJECT_KEYS: [&str; 5] = ["arch", "bpf_object", "bpf_object_size", "meta", "kernel_btf"];

/// Returns the name of an architecture in packages for any of its names. Unknown names are returned unchanged.
pub fn name(given: &str) -> &str {
    NAMES.iter().find(|names| names.contains(&given)).map_or(given, |names| names[0])
}

/// Returns the name of the architecture of this machine.
pub const fn native() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "x86_64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "riscv64") {
        "riscv64"
    } else if cfg!(target_arch = "s390x") {
        "s390x"
    } else {
        "an architecture without a name"
    }
}

/// Swaps the object for this machine with the one in `bpf_object`.
pub(super) fn select_object(document: &mut Value) -> Result<()> {
    let Some(index) = native_index(&Node::new(document, ""))? else { return Ok(()) };
    let mut others = document["other_objects"].take();
    if let Some(other) = others.as_array_mut().and_then(|others| others.get_mut(index)) {
        OBJECT_KEYS.iter().for_each(|key| std::mem::swap(&mut document[*key], &mut other[*key]));
    }
    document["other_objects"] = others;
    Ok(())
}

/// Returns the index of the object for this machine in `other_objects`; `None` if it is already in `bpf_object`.
fn native_index(top: &Node) -> Result<Option<usize>> {
    let Some(first) = top.get("arch") else { return Ok(None) };
    let others = top.list("other_objects")?;
    let mut names = name(&first.name()?).to_owned();
    if names == native() {
        return Ok(None);
    }
    for (index, other) in others.iter().enumerate() {
        let arch = other.object()?.required_name("arch")?;
        if name(&arch) == native() {
            return Ok(Some(index));
        }
        names = names + ", " + name(&arch);
    }
    let text = format!("the package has objects for {names}, and none for this machine ({})", native());
    Err(Error::new(Status::Unsupported, text))
}

impl Package {
    /// Sets the architecture of the object.
    pub fn set_arch(&mut self, arch: &str) {
        self.document["arch"] = name(arch).into();
    }

    /// Adds the object and the metadata of another package: the same program for another architecture.
    pub fn add_object(&mut self, other: &Package) {
        let mut document = other.to_value();
        let mut entry = members([]);
        for key in OBJECT_KEYS.iter().filter(|key| document.get(key).is_some()).collect::<Vec<_>>() {
            entry[key] = document[key].take();
        }
        match &mut self.document["other_objects"] {
            Value::Array(others) => others.push(entry),
            none => *none = Value::Array(vec![entry]),
        }
    }
}
