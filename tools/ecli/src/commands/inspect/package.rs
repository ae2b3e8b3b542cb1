//! Describes one package: its programs, maps, variables and event types.

use eunomia::package::Package;
use eunomia::{Options, Vm};
use eunomia_effects::{Findings, Object, PinnedMaps, names};
use serde_json::{Value, json};

use crate::error::Result;

/// Describes a JSON package.
pub fn package(bytes: &[u8]) -> Result<Value> {
    object(&Package::parse(bytes)?)
}

/// Describes an object without a package around it.
pub fn object_alone(bytes: &[u8]) -> Result<Value> {
    object(&Package::from_object(bytes, None)?)
}

/// Describes a parsed package.
pub fn object(package: &Package) -> Result<Value> {
    let vm = Vm::new(Options::new())?;
    vm.open(&package.to_json(), eunomia::Kind::Json)?;
    let described: Value = serde_json::from_str(&vm.describe()?).unwrap_or_default();
    Ok(json!({
        "name": package.meta.obj_name, "bytes": package.object.len(),
        "description": package.meta.doc.brief.as_ref().or(package.meta.doc.description.as_ref()),
        "version": package.meta.doc.version,
        "programs": programs(&vm, &package.object)?, "maps": maps(&vm)?,
        "kernel_memory": described["kernel_memory"],
        "variables": described["variables"], "events": described["meta"]["export_types"],
    }))
}

fn programs(vm: &Vm, object: &[u8]) -> Result<Vec<Value>> {
    let (mut object, pins, mut programs) = (Object::new(object), PinnedMaps::new(vm)?, Vec::new());
    for index in 0..vm.prog_count()? {
        let (info, own) = (vm.prog_at(index)?, vm.prog_code_at(index)?);
        let (name, section) = (info.name.to_string_lossy(), info.section.to_string_lossy());
        let code = object.code(&name, &own.instructions);
        let program = eunomia_effects::Program { kind: info.kind, attach_type: own.attach_type };
        let found = Findings::of(&code, &program, &|map| pins.path(map));
        let helpers = found.helpers.iter().map(|helper| format!("bpf_{}", names::helper(*helper)));
        programs.push(json!({
            "name": name, "section": section, "type": names::program(info.kind), "autoload": info.autoload,
            "helpers": helpers.collect::<Vec<_>>(), "kfuncs": found.kfuncs, "effects": found.effects,
        }));
    }
    Ok(programs)
}

fn maps(vm: &Vm) -> Result<Vec<Value>> {
    let mut maps = Vec::new();
    for index in 0..vm.map_count()? {
        let info = vm.map_at(index)?;
        let spelling = |ty: Option<&std::sync::Arc<eunomia::types::Type>>| ty.map(|ty| ty.name.to_string());
        maps.push(json!({
            "name": info.name.to_string_lossy(), "type": names::map(info.kind),
            "key_size": info.key_size, "value_size": info.value_size, "max_entries": info.max_entries,
            "bytes": info.bytes,
            "key": spelling(info.key_type.as_ref()), "value": spelling(info.value_type.as_ref()),
            "pinned": vm.map_pin_path_at(index)?,
        }));
    }
    Ok(maps)
}
