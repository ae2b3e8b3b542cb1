//! The maps of a package that are pinned.

use std::collections::BTreeMap;

use eunomia::Vm;

/// The pinned maps and their paths.
pub struct PinnedMaps(BTreeMap<String, String>);

impl PinnedMaps {
    /// The pinned maps of an open package.
    pub fn new(vm: &Vm) -> Result<PinnedMaps, eunomia::Error> {
        let mut pins = BTreeMap::new();
        for index in 0..vm.map_count()? {
            if let Some(path) = vm.map_pin_path_at(index)? {
                let name = vm.map_at(index)?.name.to_string_lossy().into_owned();
                pins.insert(name, path.to_string_lossy().into_owned());
            }
        }
        Ok(PinnedMaps(pins))
    }

    /// The path of a map, if it is pinned.
    pub fn path(&self, map: &str) -> Option<String> {
        self.0.get(map).cloned()
    }
}
