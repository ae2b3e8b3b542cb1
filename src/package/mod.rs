//! Packages: every published layout is read, one (F2) is written.
//!
//! A package is an object file made for BPF plus metadata: what the programs attach to, which globals are
//! settings, which maps carry events. Packages come from downloads, so nothing in them is trusted: sizes,
//! counts, names and nesting are bounded, and every complaint names the place in the document.
//!
//! Pure: bytes in, [`Package`] out. Knows nothing of the kernel, opens no file, and takes neither sizes nor
//! offsets from the metadata; those are read from the object's BTF and symbols elsewhere.

pub mod args;
mod codec;
mod json;
mod kernels;
pub mod machine;
mod meta;
mod node;
mod object;
mod target;

pub use meta::{
    CmdArg, CustomMember, Doc, ExportConfig, ExportMember, ExportType, MAPS, MapMeta, MemberFormat, Meta,
    ProgMeta, Sample, SampleKind, VarMeta,
};
pub(crate) use node::Places;
pub use node::{MAX_ENTRIES, compact, is_listed};
pub use object::MAX_OBJECT;
pub use target::{Interface, Perf, PerfSample, Target, Tc, TcPoint, split_offset};

use serde_json::{Map, Value};

/// Largest document that is read, in bytes; a raw object of the largest size fits as base64.
pub const MAX_DOCUMENT: usize = 128 << 20;

/// A package: the object as clang wrote it, and the metadata beside it.
#[derive(Clone, Debug)]
pub struct Package {
    /// The ELF object.
    pub object: Vec<u8>,
    /// What the metadata says, read and checked.
    pub meta: Meta,
    /// The whole document in layout F2, unknown keys included; the object's text is left out.
    document: Value,
}

impl Package {
    /// The package in layout F2, unknown keys kept.
    pub fn to_json(&self) -> Vec<u8> {
        compact(&self.to_value()).into_bytes()
    }

    fn to_value(&self) -> Value {
        let mut document = self.document.clone();
        document["bpf_object"] = codec::pack(&self.object).into();
        document["bpf_object_size"] = self.object.len().into();
        document
    }

    /// The `meta` object, in the form of layout F2 whatever the package was read from.
    pub fn meta_value(&self) -> &Value {
        &self.document["meta"]
    }
}

/// A JSON object.
pub fn members<const N: usize>(mut members: [(&str, Value); N]) -> Value {
    /// Once for all sizes.
    fn object(members: &mut [(&str, Value)]) -> Value {
        let mut object = Map::new();
        for (key, value) in members {
            object.insert((*key).to_owned(), value.take());
        }
        Value::Object(object)
    }
    object(&mut members)
}
