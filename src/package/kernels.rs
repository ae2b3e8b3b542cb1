//! BTF in a package for kernels without BTF: an extension of layout F2 that older readers ignore.
//!
//! `kernel_btf.types` contains the distinct BTF blobs, encoded like objects. `kernel_btf.kernels` maps a directory of a
//! BTFHub archive and a kernel release to the index of its blob.

use serde_json::Value;

use super::json_value::Node;
use super::{Package, json, members, object_encoding};
use crate::error::Result;

const KEY: &str = "kernel_btf";

impl Package {
    /// Whether the package contains BTF for kernels.
    pub fn has_kernel_btf(&self) -> bool {
        self.document.get(KEY).is_some_and(Value::is_object)
    }

    /// Returns the BTF of a kernel. `directory` is its directory in a BTFHub archive, such as `ubuntu/20.04/x86_64`. In
    /// a container the distribution may not be that of the kernel. So if the directory is not found, the function
    /// returns the BTF of any distribution for this release and machine, provided that all have the same one.
    pub fn kernel_btf(&self, directory: &str, release: &str) -> Result<Option<Vec<u8>>> {
        let top = Node::new(&self.document, "");
        let Some(all) = top.get(KEY) else { return Ok(None) };
        let types = all.list("types")?;
        let index_at = |releases: &Value| releases.get(release)?.as_u64();
        let kernels = all.value.get("kernels").and_then(Value::as_object);
        let exact = kernels.and_then(|kernels| index_at(kernels.get(directory)?));
        let machine = |directory: &str| directory.rsplit('/').next().map(str::to_owned);
        let elsewhere = || {
            let same_machine = kernels?.iter().filter(|(other, _)| machine(other) == machine(directory));
            let mut found = same_machine.filter_map(|(_, releases)| index_at(releases));
            let first = found.next()?;
            found.all(|index| index == first).then_some(first)
        };
        let Some(index) = exact.or_else(elsewhere).map(|index| index as usize) else { return Ok(None) };
        let Some(entry) = types.get(index) else { return Ok(None) };
        let data =
            object_encoding::decode(&entry.required_string("data")?).map_err(|failure| failure.at(entry))?;
        json::inflate(&data, Some(entry.required("size")?), &format!("{KEY}.types[{index}]")).map(Some)
    }

    /// Adds the BTF of a kernel.
    pub fn add_kernel_btf(&mut self, directory: &str, release: &str, btf: &[u8]) {
        let all = &mut self.document[KEY];
        if all.is_null() {
            *all = members([("kernels", members([])), ("types", Value::Array(Vec::new()))]);
        }
        let entry = members([("data", object_encoding::encode(btf).into()), ("size", btf.len().into())]);
        let Value::Array(types) = &mut all["types"] else { return };
        let index = types.iter().position(|known| *known == entry).unwrap_or_else(|| {
            types.push(entry);
            types.len() - 1
        });
        if all["kernels"][directory].is_null() {
            all["kernels"][directory] = members([]);
        }
        all["kernels"][directory][release] = index.into();
    }
}
