//! Packages with objects for several machines: an extension of layout F2 that older readers do not see.
//!
//! The object in the usual place says by `arch` what it is for; each entry of `other_objects` is one more, with all that
//! belongs to it. Without `arch` an object is for every machine.

use serde_json::Value;

use super::node::Node;
use super::{Package, members};
use crate::error::{Error, Result, Status};

/// The names of an architecture; the first is the one that packages and BTFHub have.
const NAMES: [&[&str]; 3] = [&["x86_64", "x86", "amd64"], &["arm64", "aarch64"], &["riscv64", "riscv"]];
/// What belongs to an object.
const OWN: [&str; 5] = ["arch", "bpf_object", "bpf_object_size", "meta", "kernel_btf"];

/// The name of an architecture, whichever of its names is given; one that nobody knows as it is.
pub fn name(given: &str) -> &str {
    NAMES.iter().find(|names| names.contains(&given)).map_or(given, |names| names[0])
}

/// The name of this machine.
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
        "a machine without a name here"
    }
}

/// Has the object for this machine change places with the one in the usual place.
pub(super) fn choose(document: &mut Value) -> Result<()> {
    let Some(index) = place(&Node::new(document, ""))? else { return Ok(()) };
    let mut others = document["other_objects"].take();
    if let Some(other) = others.as_array_mut().and_then(|others| others.get_mut(index)) {
        OWN.iter().for_each(|key| std::mem::swap(&mut document[*key], &mut other[*key]));
    }
    document["other_objects"] = others;
    Ok(())
}

/// Where the object for this machine stands; none if it is the first.
fn place(top: &Node) -> Result<Option<usize>> {
    let Some(first) = top.get("arch") else { return Ok(None) };
    let others = top.list("other_objects")?;
    let mut names = name(&first.name()?).to_owned();
    if names == native() {
        return Ok(None);
    }
    for (index, other) in others.iter().enumerate() {
        let arch = other.object()?.need_name("arch")?;
        if name(&arch) == native() {
            return Ok(Some(index));
        }
        names = names + ", " + name(&arch);
    }
    let text = format!("the package has objects for {names}, and none for this machine ({})", native());
    Err(Error::new(Status::Unsupported, text))
}

impl Package {
    /// Says which architecture the object is for.
    pub fn set_arch(&mut self, arch: &str) {
        self.document["arch"] = name(arch).into();
    }

    /// Adds the object of another package, with what belongs to it; of the same program, for another architecture.
    pub fn add_object(&mut self, other: &Package) {
        let mut document = other.to_value();
        let mut entry = members([]);
        for key in OWN.iter().filter(|key| document.get(key).is_some()).collect::<Vec<_>>() {
            entry[key] = document[key].take();
        }
        match &mut self.document["other_objects"] {
            Value::Array(others) => others.push(entry),
            none => *none = Value::Array(vec![entry]),
        }
    }
}
