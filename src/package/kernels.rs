//! BTF that a package brings for kernels that have none: an extension of layout F2 that older readers do not see.
//!
//! `kernel_btf` has the distinct ones in `types`, each as objects are written, and in `kernels` the places of a BTFHub
//! archive, in each of them the releases with the index of their types.

use serde_json::Value;

use super::node::Node;
use super::{Package, codec, json, members};
use crate::error::Result;

const KEY: &str = "kernel_btf";

impl Package {
    /// Whether it brings any.
    pub fn has_kernel_btf(&self) -> bool {
        self.document.get(KEY).is_some_and(Value::is_object)
    }

    /// The BTF of a kernel; `place` is its folder in a BTFHub archive, such as `ubuntu/20.04/x86_64`. In a container the
    /// distribution is not the kernel's: where all kernels of that release and machine have the same types, these are it.
    pub fn kernel_btf(&self, place: &str, release: &str) -> Result<Option<Vec<u8>>> {
        let top = Node::new(&self.document, "");
        let Some(all) = top.get(KEY) else { return Ok(None) };
        let types = all.list("types")?;
        let index_at = |releases: &Value| releases.get(release)?.as_u64();
        let kernels = all.value.get("kernels").and_then(Value::as_object);
        let exact = kernels.and_then(|kernels| index_at(kernels.get(place)?));
        let machine = |place: &str| place.rsplit('/').next().map(str::to_owned);
        let elsewhere = || {
            let places = kernels?.iter().filter(|(other, _)| machine(other) == machine(place));
            let mut found = places.filter_map(|(_, releases)| index_at(releases));
            let first = found.next()?;
            found.all(|index| index == first).then_some(first)
        };
        let Some(index) = exact.or_else(elsewhere).map(|index| index as usize) else { return Ok(None) };
        let Some(entry) = types.get(index) else { return Ok(None) };
        let data = codec::decode(&entry.need_text("data")?).map_err(|failure| failure.at(entry))?;
        json::inflate(&data, Some(entry.need("size")?), &format!("{KEY}.types[{index}]")).map(Some)
    }

    /// Adds the BTF of a kernel.
    pub fn add_kernel_btf(&mut self, place: &str, release: &str, btf: &[u8]) {
        let all = &mut self.document[KEY];
        if all.is_null() {
            *all = members([("kernels", members([])), ("types", Value::Array(Vec::new()))]);
        }
        let entry = members([("data", codec::pack(btf).into()), ("size", btf.len().into())]);
        let Value::Array(types) = &mut all["types"] else { return };
        let index = types.iter().position(|known| *known == entry).unwrap_or_else(|| {
            types.push(entry);
            types.len() - 1
        });
        if all["kernels"][place].is_null() {
            all["kernels"][place] = members([]);
        }
        all["kernels"][place][release] = index.into();
    }
}
