//! Packages, as the exporter reads them.

use eunomia::package::Package;
use serde_json::Value;

/// Returns the package without sampling. The library would read a sampled map on a timer, and clear some
/// maps, but the exporter reads a map at each scrape.
pub fn without_sampling(data: &[u8]) -> eunomia::Result<Vec<u8>> {
    let package = Package::parse(data)?;
    if package.meta.maps.iter().all(|map| map.sample.is_none()) {
        return Ok(data.to_vec());
    }
    let mut meta = package.meta_value().clone();
    remove(&mut meta);
    Ok(Package::build(&package.object, meta)?.to_json())
}

/// Removes `sample` from all maps.
fn remove(meta: &mut Value) {
    let maps = meta.pointer_mut("/bpf_skel/maps").and_then(Value::as_array_mut);
    for map in maps.into_iter().flatten().filter_map(Value::as_object_mut) {
        map.remove("sample");
    }
}
