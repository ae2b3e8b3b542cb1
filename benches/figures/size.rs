//! Sizes of the shipped files and of packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::programs::Built;
use super::report::{Figure, Report};
use super::{Result, example, output, package, root, tool};

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("Sizes");
    let mut file = |name: &str, path: &Path, most| {
        report.alone(name, Figure::new("", size(path)? as f64, "bytes"), Some(most));
        Ok::<(), String>(())
    };
    file("libeunomia.so, stripped", &built.library, 1_000_000.0)?;
    file("`ecli`, stripped, the library inside", &tool("ecli"), 8_000_000.0)?;
    file("`ecc`, stripped, no LLVM inside", &tool("ecc"), 5_000_000.0)?;
    file("package of opensnoop", &package("opensnoop"), 20_000.0)?;
    let (name, path) = largest_package()?;
    file(&format!("largest example package, {name}"), &path, 60_000.0)?;
    needs(&built.library, report)
}

fn largest_package() -> Result<(String, std::path::PathBuf)> {
    let mut packages = Vec::new();
    for folder in fs::read_dir(root().join("examples/bpf")).map_err(|e| e.to_string())?.flatten() {
        if folder.path().is_dir() {
            let name = folder.file_name().to_string_lossy().into_owned();
            let path = example(&name, "package.json");
            packages.push((size(&path)?, name, path));
        }
    }
    packages.into_iter().max().map(|(_, name, path)| (name, path)).ok_or("there are no examples".into())
}

/// The libraries that may be required.
fn needs(library: &Path, report: &mut Report) -> Result<()> {
    const MAY_NEED: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];
    let dynamic = output(Command::new("readelf").args(["--dynamic", "--wide"]).arg(library))?;
    let entries = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let needed: Vec<_> =
        entries.filter_map(|line| Some(line.split_once('[')?.1.trim_end_matches(']'))).collect();
    let reached = needed.iter().all(|name| MAY_NEED.contains(name));
    let target = "libc, libm, libgcc_s, ld-linux";
    report.row(["libeunomia.so needs", "", &needed.join(", "), ""], Some((target, reached)));
    Ok(())
}

fn size(path: &Path) -> Result<u64> {
    fs::metadata(path).map(|meta| meta.len()).map_err(|e| format!("{}: {e}", path.display()))
}
