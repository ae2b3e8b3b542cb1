//! The declarations of the header for Python's ctypes: bindings/python/src/eunomia/_ffi.py.

use crate::header::HEADER;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

const MODULE: &str = "bindings/python/src/eunomia/_ffi.py";

const HEAD: &str = r#""""The C declarations of eunomia.h. Generated from it by `make header`; not for editing."""

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from enum import IntEnum, IntFlag
from typing import Any
"#;

/// Writes the module from the committed header.
pub fn write() -> Result<(), String> {
    crate::write(Path::new(MODULE), &generated(HEADER)?)
}

/// Generates the Python module from the header, as clang parses it.
fn generated(header: &str) -> Result<String, String> {
    let tree = crate::output("clang", &["-fsyntax-only", "-Xclang", "-ast-dump=json", header])?;
    let tree: Value = serde_json::from_str(&tree).map_err(|error| format!("clang on {header}: {error}"))?;
    let mut module = HEAD.to_string() + &version(&crate::read(Path::new(header))?)?;
    let mut functions = String::new();
    for node in children(&tree).filter(|node| name(node).starts_with("eunomia_")) {
        match node["kind"].as_str() {
            Some("EnumDecl") => module += &enumeration(node),
            Some("RecordDecl") => module += &structure(node)?,
            Some("TypedefDecl") if quoted_type(node).contains("(*)") => module += &callback(node)?,
            Some("FunctionDecl") => functions += &function(node)?,
            _ => {}
        }
    }
    let note = "# Name, result and arguments of each function.";
    write!(module, "\n\n{note}\nFUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (\n{functions})\n")
        .map_err(|error| error.to_string())?;
    Ok(module)
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    node["inner"].as_array().into_iter().flatten()
}

fn name(node: &Value) -> &str {
    node["name"].as_str().unwrap_or("")
}

fn quoted_type(node: &Value) -> &str {
    node["type"]["qualType"].as_str().unwrap_or("")
}

/// Macros are not in clang's tree.
fn version(header: &str) -> Result<String, String> {
    let define = |name: &str| {
        let of = |line: &str| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name))
                .then(|| words.next())?
                .map(str::to_string)
        };
        header.lines().find_map(of).ok_or_else(|| format!("{HEADER} defines no {name}"))
    };
    let part = |name: &str| define(&format!("EUNOMIA_VERSION_{name}"));
    let (major, minor, patch) = (part("MAJOR")?, part("MINOR")?, part("PATCH")?);
    Ok(format!("\nVERSION = \"{major}.{minor}.{patch}\"\nVERSION_NUM = {}\n", part("NUM")?))
}

/// `eunomia_log_level` with `EUNOMIA_LOG_WARN` becomes `LogLevel` with `WARN`. An enum of bits has a name that ends in
/// `flag`, or is `kind`.
fn enumeration(node: &Value) -> String {
    let own = name(node).trim_start_matches("eunomia_");
    let base = if own.ends_with("flag") || own == "kind" { "IntFlag" } else { "IntEnum" };
    let words = own.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    let mut class = format!("\n\nclass {}({base}):\n", words.collect::<String>());
    let group = own.split('_').next().unwrap_or("").to_uppercase() + "_";
    for constant in children(node) {
        let name = name(constant).trim_start_matches("EUNOMIA_");
        let name = name.strip_prefix(&group).unwrap_or(name);
        let value = children(constant).find_map(|inner| inner["value"].as_str()).unwrap_or("0");
        class += &format!("    {name} = {value}\n");
    }
    class
}

/// A struct with known members. Of all other structs, the interface has only pointers.
fn structure(node: &Value) -> Result<String, String> {
    let mut fields = String::new();
    for field in children(node).filter(|inner| inner["kind"] == "FieldDecl") {
        fields += &format!("        (\"{}\", {}),\n", name(field), ctype(quoted_type(field))?);
    }
    if fields.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("\n\nclass {}(Structure):\n    _fields_ = (\n{fields}    )\n", name(node)))
}

/// `int (*)(void *, const char *)`: result and arguments in the order that ctypes expects.
fn callback(node: &Value) -> Result<String, String> {
    let (result, arguments) =
        quoted_type(node).split_once("(*)").ok_or_else(|| format!("{}: no callback", name(node)))?;
    let arguments = arguments.trim_start_matches('(').trim_end_matches(')').split(',');
    let types: Result<Vec<_>, _> = std::iter::once(result).chain(arguments).map(ctype).collect();
    Ok(format!("\n\n{} = CFUNCTYPE({})\n", name(node), types?.join(", ")))
}

fn function(node: &Value) -> Result<String, String> {
    let result = quoted_type(node).split('(').next().unwrap_or("");
    let parameters = children(node).filter(|inner| inner["kind"] == "ParmVarDecl");
    let types: Result<Vec<_>, _> = parameters.map(|parameter| ctype(quoted_type(parameter))).collect();
    let types = types?;
    let one = if types.len() == 1 { "," } else { "" };
    Ok(format!("    (\"{}\", {}, ({}{one})),\n", name(node), ctype(result)?, types.join(", ")))
}

/// The ctypes name of a C type.
fn ctype(spelt: &str) -> Result<String, String> {
    let words = spelt.replace('*', " * ");
    let words: Vec<&str> =
        words.split_whitespace().filter(|word| !["const", "struct"].contains(word)).collect();
    Ok(match words[..] {
        ["void"] => "None".to_string(),
        ["void", "*"] | ["eunomia_vm" | "eunomia_group" | "eunomia_type", "*"] => "c_void_p".to_string(),
        ["char", "*"] => "c_char_p".to_string(),
        ["int" | "size_t", ..] => pointer(&format!("c_{}", words[0]), words.len()),
        ["uint32_t" | "uint64_t" | "int32_t" | "int64_t"] => format!("c_{}", words[0].trim_end_matches("_t")),
        ["char", "*", "*"] => "POINTER(c_char_p)".to_string(),
        ["void" | "eunomia_vm" | "eunomia_group", "*", "*"] => "POINTER(c_void_p)".to_string(),
        [name] if name.ends_with("_fn") => name.to_string(),
        [name, "*"] if name.starts_with("eunomia_") => format!("POINTER({name})"),
        _ => return Err(format!("no ctypes name is known for {spelt:?}")),
    })
}

fn pointer(name: &str, words: usize) -> String {
    if words == 1 { name.to_string() } else { format!("POINTER({name})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_module_is_the_generated_one() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
        let committed = crate::read(Path::new(&format!("{root}{MODULE}"))).expect("the module is there");
        let generated = generated(&format!("{root}{HEADER}")).expect("clang reads the header");
        assert!(committed == generated, "{MODULE} is old; run `make header`");
    }

    #[test]
    fn a_type_that_is_not_known_is_refused() {
        assert_eq!(ctype("const struct eunomia_event *"), Ok("POINTER(eunomia_event)".to_string()));
        assert_eq!(ctype("double"), Err("no ctypes name is known for \"double\"".to_string()));
    }
}
