//! Finds hooks by BTF id: the type of the kernel that a section such as `fentry/do_unlinkat` refers to.

use super::elf;
use super::sys::section_handlers::is_registered;
use crate::btf::Hook;

/// Prefixes of sections, each with the prefix of its hooks' names in the kernel's types. The sections are those of
/// `sys::section_handlers`.
const PREFIXES: [(&str, &str); 6] = [
    ("tp_btf", "btf_trace_"),
    ("fentry", ""),
    ("fexit", ""),
    ("fmod_ret", ""),
    ("fsession", ""),
    ("iter", "bpf_iter_"),
];

/// Returns the hook of each section of an object whose hook may be in the kernel itself. The list is empty if libbpf
/// looks up the hooks.
pub fn section_hooks(object: &[u8]) -> Vec<Hook> {
    if !is_registered() {
        return Vec::new();
    }
    elf::names(object).unwrap_or_default().into_iter().filter_map(section_hook).collect()
}

fn section_hook(section: &[u8]) -> Option<Hook> {
    let section = std::str::from_utf8(section).ok()?.trim_start_matches('?');
    let (kind, name) = section.split_once('/')?;
    let is_typedef = kind == "tp_btf";
    let kind = kind.strip_suffix(".s").unwrap_or(kind);
    let (_, prefix) = PREFIXES.iter().find(|(known, _)| *known == kind)?;
    Some(Hook { section: section.into(), name: [prefix, name].concat(), is_typedef, id: 0 })
}
