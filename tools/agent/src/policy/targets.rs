//! The files and control groups that programs attach to.

use std::fs;
use std::path::{Path, PathBuf};

use eunomia::package::{Meta, Target};
use eunomia::vm::ProgInfo;

use super::Result;
use super::file::Rules;
use crate::loader::protocol::Failure;

/// Checks that a program may attach to the paths in its section and its targets. `file` is the path of the policy, for messages.
pub fn check(rules: &Rules, file: &str, meta: &Meta, program: &ProgInfo) -> Result<()> {
    let (name, section) = (program.name.to_string_lossy(), program.section.to_string_lossy());
    for target in targets(meta, program)? {
        let place = target.attach.as_deref().unwrap_or(&section);
        if let (Some(folders), Some(path)) = (&rules.uprobe_folders, executable(place, &target)) {
            beneath(&path, folders).and_then(owned).map_err(|why| {
                let text = format!("the program {name:?} attaches to the executable {path:?}, {why}");
                Failure::refused(
                    "uprobe_folders",
                    text,
                    format!("if that is intended, change uprobe_folders in {file}"),
                )
            })?;
        }
        if let (Some(folders), Some(path)) = (&rules.cgroup_folders, &target.cgroup) {
            beneath(path, folders).map_err(|why| {
                let text = format!("the program {name:?} attaches to the control group {path:?}, {why}");
                Failure::refused(
                    "cgroup_folders",
                    text,
                    format!("if that is intended, change cgroup_folders in {file}"),
                )
            })?;
        }
    }
    Ok(())
}

/// The targets to which a program attaches: those that the host has set, or the one in the package.
fn targets(meta: &Meta, program: &ProgInfo) -> Result<Vec<Target>> {
    let given = program.target.to_string_lossy();
    if !given.is_empty() {
        let value = serde_json::from_str(&given).unwrap_or_default();
        return Ok(Target::parse(&value, "target")?);
    }
    let name = program.name.to_string_lossy();
    let own = meta.progs.iter().filter(|prog| prog.name == name).map(|prog| prog.target.clone());
    let mut own: Vec<Target> = own.collect();
    if own.is_empty() {
        own.push(Target::default());
    }
    Ok(own)
}

/// The executable of a program for user probes; empty if the target specifies it by another key.
fn executable(place: &str, target: &Target) -> Option<String> {
    let (hook, rest) = place.split_once('/').unwrap_or((place, ""));
    let path = match hook.split('.').next()? {
        "uprobe" | "uretprobe" => rest.rsplit_once(':').map_or(rest, |(path, _)| path),
        "usdt" => rest.rsplitn(3, ':').nth(2).unwrap_or_default(),
        _ => return None,
    };
    Some(target.path.clone().unwrap_or_else(|| path.to_owned()))
}

/// The path without links, if it is in one of the directories.
fn beneath(path: &str, folders: &[PathBuf]) -> std::result::Result<PathBuf, String> {
    // libbpf ends a path in a section at the first colon, and looks up a name without a slash in several directories.
    if !path.starts_with('/') || path.contains(':') {
        return Err("which must be an absolute path without a colon".into());
    }
    // A process decides which files are below its directory in /proc.
    if Path::new(path).starts_with("/proc") {
        return Err("which is a path of a process".into());
    }
    let real = fs::canonicalize(path).map_err(|error| format!("which cannot be found: {error}"))?;
    let folders: Vec<PathBuf> = folders.iter().filter_map(|folder| fs::canonicalize(folder).ok()).collect();
    match folders.iter().any(|folder| real.starts_with(folder)) {
        true => Ok(real),
        false => Err("which is in none of the allowed directories".into()),
    }
}

/// Checks that no other user can exchange the file after this check.
fn owned(path: PathBuf) -> std::result::Result<(), String> {
    eunomia_owner::check(&path).map_err(|why| format!("but {why}, so it could be exchanged"))
}
