//! Packages: reads every published layout, writes layout F2.
//!
//! A package is a BPF object file and its metadata: where programs attach, which global variables are options, which maps
//! deliver events. Packages are downloaded, so they are untrusted: sizes, counts, names and nesting have limits, and each
//! error names the path in the document.
//!
//! Sizes and offsets in the metadata are not used; other parts read them from the BTF and the symbols of the object.

pub mod args;
mod foreign;
mod json;
mod json_value;
mod kernels;
pub mod machine;
mod meta;
mod object;
mod object_encoding;
mod target;

pub(crate) use json_value::NameIndex;
pub use json_value::{MAX_ENTRIES, compact, is_listed};
pub use meta::{
    CmdArg, CustomMember, Doc, ExportConfig, ExportMember, ExportType, MAPS, MapMeta, MemberFormat, Meta,
    ProgMeta, Sample, SampleKind, VarMeta,
};
pub use object::MAX_OBJECT;
pub use target::{Interface, Perf, PerfSample, Target, Tc, TcPoint, split_offset};

use serde_json::{Map, Value};

/// Maximum number of bytes of a document. It can contain the largest object as base64 without compression.
pub const MAX_DOCUMENT: usize = 128 << 20;

/// A package: an object file and its metadata.
#[derive(Clone, Debug)]
pub struct Package {
    /// The ELF object.
    pub object: Vec<u8>,
    /// The metadata, checked.
    pub meta: Meta,
    /// The document in layout F2, including unknown keys, without the object.
    document: Value,
}

impl Package {
    /// Returns the package in layout F2, including unknown keys.
    pub fn to_json(&self) -> Vec<u8> {
        compact(&self.to_value()).into_bytes()
    }

    fn to_value(&self) -> Value {
        let mut document = self.document.clone();
        document["bpf_object"] = object_encoding::encode(&self.object).into();
        document["bpf_object_size"] = self.object.len().into();
        document
    }

    /// Returns the `meta` object in layout F2, whatever layout the package was read from.
    pub fn meta_value(&self) -> &Value {
        &self.document["meta"]
    }
}

/// Creates a JSON object.
pub fn members<const N: usize>(mut members: [(&str, Value); N]) -> Value {
    /// Compiled once for all sizes.
    fn object(members: &mut [(&str, Value)]) -> Value {
        let mut object = Map::new();
        for (key, value) in members {
            object.insert((*key).to_owned(), value.take());
        }
        Value::Object(object)
    }
    object(&mut members)
}
