//! `ecli inspect`: what a program contains and what it could do, without running any of it.

mod code;
mod effects;
mod names;

use std::fmt::Write;

use eunomia::package::Package;
use eunomia::{Options, Vm};
use serde_json::{Value, json};
use wasmparser::{ExternalKind, Parser, Payload};

use crate::archive::Unpacked;
use crate::error::{Failure, Result};
use crate::options::Inspect;
use crate::source::{self, Kind, Program, Request};
use crate::{Ended, output};
use code::Object64;

/// Packages in a module that are looked at.
const MAX_PACKAGES: usize = 64;

/// Prints what the program contains.
pub fn run(options: &Inspect) -> Ended {
    let request = Request { prog: &options.prog, kind: options.prog_type, origin: &options.origin };
    let program = source::open(&request)?;
    let report = report(&program)?;
    let text = if options.json { report.to_string() + "\n" } else { text(&report) };
    output::print(text)
}

fn report(program: &Program) -> Result<Value> {
    let (kind, packages) = match program.kind {
        Kind::Wasm => return module(program),
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

/// A module: its borders, and the packages that stand in its memory as text.
fn module(program: &Program) -> Result<Value> {
    // The library says what is wrong with it, if anything is.
    let vm = Vm::new(Options::default())?;
    vm.open(&program.bytes, eunomia::Kind::Wasm as u32).map_err(|e| Failure::from(e).at(&program.name))?;
    let (mut imports, mut exports, mut packages) = (Vec::new(), Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(&program.bytes) {
        let Ok(payload) = payload else { break };
        match payload {
            Payload::ImportSection(section) => {
                let all = section.into_imports().flatten();
                imports.extend(all.map(|import| format!("{}.{}", import.module, import.name)));
            }
            Payload::ExportSection(section) => {
                let functions =
                    section.into_iter().flatten().filter(|export| export.kind == ExternalKind::Func);
                exports.extend(functions.map(|export| export.name.to_owned()));
            }
            Payload::DataSection(section) => {
                for data in section.into_iter().flatten() {
                    packages.extend(embedded(data.data));
                }
            }
            _ => {}
        }
    }
    packages.truncate(MAX_PACKAGES);
    let (name, bytes) = (&program.name, program.bytes.len());
    Ok(
        json!({ "name": name, "kind": "module", "bytes": bytes, "imports": imports, "exports": exports, "packages": packages }),
    )
}

/// The packages in a piece of a module's memory: JSON texts with an object, and bare objects are left out.
fn embedded(data: &[u8]) -> Vec<Value> {
    let texts = data.split(|byte| *byte == 0).filter(|text| text.starts_with(b"{\""));
    texts.take(MAX_PACKAGES).filter_map(|text| package(text).ok()).collect()
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
    let code = Object64::parse(&package.object)?;
    let mut programs = Vec::new();
    for index in 0..vm.prog_count()? {
        let info = vm.prog_at(index)?;
        let (name, section) = (info.name.to_string_lossy(), info.section.to_string_lossy());
        let kind = names::program(info.kind);
        let calls = code.calls(&name);
        let helpers: Vec<String> =
            calls.helpers.iter().map(|helper| format!("bpf_{}", names::helper(*helper))).collect();
        programs.push(json!({
            "name": name, "section": section, "type": kind, "autoload": info.autoload,
            "helpers": helpers, "kfuncs": calls.kfuncs, "effects": effects::of(&kind, &section, &calls),
        }));
    }
    let mut maps = Vec::new();
    for index in 0..vm.map_count()? {
        let info = vm.map_at(index)?;
        let spelling = |ty: Option<&std::sync::Arc<eunomia::types::Type>>| ty.map(|ty| ty.name.to_string());
        maps.push(json!({
            "name": info.name.to_string_lossy(), "type": names::map(info.kind),
            "key_size": info.key_size, "value_size": info.value_size, "max_entries": info.max_entries,
            "key": spelling(info.key_type.as_ref()), "value": spelling(info.value_type.as_ref()),
        }));
    }
    Ok(json!({
        "name": package.meta.obj_name, "bytes": package.object.len(),
        "description": package.meta.doc.brief.as_ref().or(package.meta.doc.description.as_ref()),
        "version": package.meta.doc.version,
        "programs": programs, "maps": maps,
        "variables": described["variables"], "events": described["meta"]["export_types"],
    }))
}

/// The report for people.
fn text(report: &Value) -> String {
    let mut text = String::new();
    line(
        &mut text,
        0,
        &format!("{}: {}, {} bytes", word(&report["name"]), word(&report["kind"]), report["bytes"]),
    );
    for (key, title) in [("imports", "imports"), ("exports", "exports")] {
        if let Some(names) = report[key].as_array().filter(|names| !names.is_empty()) {
            line(&mut text, 1, &format!("{title}: {}", list(names)));
        }
    }
    for package in report["packages"].as_array().into_iter().flatten() {
        package_text(package, &mut text);
    }
    text
}

fn package_text(package: &Value, text: &mut String) {
    line(text, 0, "");
    line(text, 0, &format!("object {}, {} bytes", word(&package["name"]), package["bytes"]));
    if let Some(description) = package["description"].as_str() {
        line(text, 1, description);
    }
    section(text, "programs", &package["programs"], |text, program| {
        line(
            text,
            2,
            &format!(
                "{}  SEC(\"{}\"), {}",
                word(&program["name"]),
                word(&program["section"]),
                word(&program["type"])
            ),
        );
        for (key, title) in [("helpers", "calls"), ("kfuncs", "calls in the kernel"), ("effects", "could")] {
            if let Some(names) = program[key].as_array().filter(|names| !names.is_empty()) {
                line(text, 3, &format!("{title}: {}", list(names)));
            }
        }
    });
    section(text, "maps", &package["maps"], |text, map| {
        let types = match (map["key"].as_str(), map["value"].as_str()) {
            (Some(key), Some(value)) => format!(", {key} to {value}"),
            (None, Some(value)) => format!(", {value}"),
            _ => String::new(),
        };
        line(
            text,
            2,
            &format!("{}  {}, {} entries{types}", word(&map["name"]), word(&map["type"]), map["max_entries"]),
        );
    });
    section(text, "variables", &package["variables"], |text, var| {
        let constant = if var["constant"] == true { "const " } else { "" };
        line(text, 2, &format!("{constant}{} {} = {}", word(&var["type"]), word(&var["name"]), var["value"]));
    });
    section(text, "events", &package["events"], |text, event| {
        line(text, 2, &format!("struct {}, {} bytes", word(&event["name"]), event["size"]));
        for member in event["members"].as_array().into_iter().flatten() {
            line(text, 3, &format!("{} {}", word(&member["type"]), word(&member["name"])));
        }
    });
}

fn section(text: &mut String, title: &str, items: &Value, mut each: impl FnMut(&mut String, &Value)) {
    let items = items.as_array().map_or(&[][..], Vec::as_slice);
    if !items.is_empty() {
        line(text, 1, title);
        items.iter().for_each(|item| each(text, item));
    }
}

/// Adds a line; names come from strangers and may hold line ends.
fn line(text: &mut String, depth: usize, line: &str) {
    let line: String = line.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:1$}{line}", "", 2 * depth);
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(names: &[Value]) -> String {
    names.iter().map(word).collect::<Vec<_>>().join(", ")
}
