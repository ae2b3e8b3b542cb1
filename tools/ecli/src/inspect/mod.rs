//! `ecli inspect`: what a program contains and what it could do, without running any of it.
//!
//! Nothing is created in the kernel, and no privilege is needed. The crate `eunomia-effects` judges the instructions.

mod module;
mod text;

use std::collections::BTreeMap;

use eunomia::package::Package;
use eunomia::{Options, Vm};
use eunomia_effects::{Findings, Object, names};
use serde_json::{Value, json};

use crate::archive::Unpacked;
use crate::error::Result;
use crate::options::Inspect;
use crate::source::{self, Kind, Program, Request};
use crate::{Ended, output};

/// Prints what the program contains.
pub fn run(options: &Inspect) -> Ended {
    let request = Request { prog: &options.prog, kind: options.prog_type, origin: &options.origin };
    let program = source::open(&request)?;
    let report = report(&program)?;
    let text = if options.json { report.to_string() + "\n" } else { text::text(&report) };
    output::print(text)
}

fn report(program: &Program) -> Result<Value> {
    let (kind, packages) = match program.kind {
        Kind::Wasm => return module::report(program),
        Kind::Json => ("package", package(&program.bytes)),
        Kind::Tar => {
            let unpacked = Unpacked::new(&program.bytes, &program.name)?;
            ("archive", unpacked.package().and_then(|bytes| package(&bytes)))
        }
        Kind::Object => ("object", object_alone(&program.bytes)),
    };
    let packages = packages.map_err(|failure| failure.at(&program.name))?;
    Ok(json!({ "name": program.name, "kind": kind, "bytes": program.bytes.len(), "packages": [packages] }))
}

fn package(bytes: &[u8]) -> Result<Value> {
    object(&Package::parse(bytes)?)
}

fn object_alone(bytes: &[u8]) -> Result<Value> {
    object(&Package::from_object(bytes, None)?)
}

fn object(package: &Package) -> Result<Value> {
    let vm = Vm::new(Options::default())?;
    vm.open(&package.to_json(), eunomia::Kind::Json as u32)?;
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

/// The maps that are pinned, and where.
pub struct PinnedMaps(BTreeMap<String, String>);

impl PinnedMaps {
    /// Those of an open package.
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

    /// Where a map is pinned, if it is.
    pub fn path(&self, map: &str) -> Option<String> {
        self.0.get(map).cloned()
    }
}
