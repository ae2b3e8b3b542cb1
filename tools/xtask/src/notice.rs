//! Writes NOTICE: the components linked into the library and the tools, and their licence texts from the sources that cargo
//! builds.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const NOTICE: &str = "NOTICE";

/// A linked component.
struct Part {
    name: String,
    /// The licence under which it is used, chosen here if there are several.
    licence: &'static str,
    /// The files with its text, in the directory of the crate that contains the component.
    texts: Vec<PathBuf>,
}

/// Components that are not crates: name, the crate that contains their sources, licence, licence files.
const INSIDE: [(&str, &str, &str, &[&str]); 6] = [
    ("libbpf", "libbpf-sys", "BSD-2-Clause", &["libbpf/LICENSE.BSD-2-Clause"]),
    (
        "libelf of elfutils",
        "libbpf-sys",
        "LGPL-3.0-or-later",
        &["elfutils/COPYING-LGPLV3", "elfutils/COPYING"],
    ),
    ("zlib", "libbpf-sys", "Zlib", &["zlib/LICENSE"]),
    ("WAMR", "wamrx-sys", "Apache-2.0 WITH LLVM-exception", &["wasm-micro-runtime/LICENSE"]),
    ("Rust's standard library", "libc", "MIT", &["LICENSE-MIT"]),
    ("hashbrown (in Rust's standard library)", "hashbrown", "MIT", &["LICENSE-MIT"]),
];

/// Names of files with the chosen licence; the first that exists is used.
const TEXTS: [(&str, &str); 11] = [
    ("LICENSE-MIT", "MIT"),
    ("MIT-LICENSE", "MIT"),
    ("LICENSE-MIT.md", "MIT"),
    ("LICENSE.BSD-2-Clause", "BSD-2-Clause"),
    ("LICENSE-MIT.txt", "MIT"),
    ("LICENSE", ""),
    ("LICENSE.txt", ""),
    ("LICENSE-ZLIB.md", "Zlib"),
    ("wasm-micro-runtime/LICENSE", "Apache-2.0"),
    ("LICENSE-APACHE", "Apache-2.0"),
    ("LICENSE.md", ""),
];

/// Crates that are distributed without a text: the name, and a crate under the same licence that has it. Their Cargo.toml names the
/// licence.
const SAME_TEXT: [(&str, &str); 3] =
    [("opentelemetry", "prost"), ("opentelemetry-proto", "prost"), ("opentelemetry_sdk", "prost")];

const HEAD: &str = "\
libeunomia is under the MIT licence, see LICENSE. libeunomia.so and libeunomia.a contain the parts below, each under the
licence next to its name. If a part is offered under several licences, this list has the one that was chosen. The texts follow.

libelf is under the GNU Lesser General Public License. Its sources are in the crate libbpf-sys, which cargo fetches, and `make`
builds all of libeunomia from source. To use another version of libelf, replace the sources there and run `make` again.

";

const OF_TOOLS: &str = "
The programs ecc, ecli and eunomia-exporter contain all of these parts, and those of the following parts that they need:

";

/// Writes NOTICE.
pub fn write() -> Result<(), String> {
    crate::write(Path::new(NOTICE), &generated()?)
}

fn generated() -> Result<String, String> {
    let (library, tools) = parts()?;
    let mut notice = HEAD.to_owned() + &lines(&library) + OF_TOOLS + &lines(&tools);
    let parts: Vec<Part> = library.into_iter().chain(tools).collect();
    let mut done = BTreeSet::new();
    for text in parts.iter().flat_map(|part| &part.texts) {
        let content = crate::read(text)?;
        if !done.insert(content.clone()) {
            continue;
        }
        let same: BTreeSet<&str> =
            parts.iter().filter(|part| has_text(part, &content)).map(|part| part.name.as_str()).collect();
        let names = same.into_iter().collect::<Vec<_>>().join(", ");
        let _ = write!(notice, "\n{}\n{names}\n\n{}\n", "-".repeat(80), content.trim_end());
    }
    Ok(without_trailing_blanks(&notice))
}

/// A line for each part.
fn lines(parts: &[Part]) -> String {
    parts.iter().map(|part| format!("  {:<42}{}\n", part.name, part.licence)).collect()
}

fn has_text(part: &Part, content: &str) -> bool {
    part.texts.iter().any(|text| crate::read(text).is_ok_and(|other| other == content))
}

fn without_trailing_blanks(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end().replace('\u{c}', ""))).collect()
}

/// The components that are linked into the library, and those that are linked into the tools only, with the crates
/// sorted by name.
fn parts() -> Result<(Vec<Part>, Vec<Part>), String> {
    let folders = folders()?;
    let part = |(name, version): &(String, String)| {
        let (licence, text) = licence(&folders, name, version)?;
        // The licence file of ring refers to further files.
        let more = ["LICENSE-BoringSSL", "LICENSE-other-bits"].map(|file| text.with_file_name(file));
        let texts = [text].into_iter().chain(more.into_iter().filter(|text| text.exists())).collect();
        Ok(Part { name: format!("{name} {version}"), licence, texts })
    };
    let in_library = crates("eunomia")?;
    let mut library = in_library.iter().map(part).collect::<Result<Vec<_>, String>>()?;
    for (name, within, licence, texts) in INSIDE {
        let folder = folders.iter().find(|(crate_name, _, _)| crate_name == within);
        let (_, _, folder) = folder.ok_or_else(|| format!("no crate {within}"))?;
        let texts = texts.iter().map(|text| folder.join(text)).collect();
        library.push(Part { name: name.to_owned(), licence, texts });
    }
    let in_tools = &(&crates("ecc")? | &crates("ecli")?) | &crates("eunomia-exporter")?;
    let tools = in_tools.difference(&in_library).map(part).collect::<Result<_, String>>()?;
    Ok((library, tools))
}

/// Names and versions of the crates that a crate of this project links, without those of this project and without build
/// dependencies.
fn crates(ours: &str) -> Result<BTreeSet<(String, String)>, String> {
    let host = crate::output("rustc", &["--print", "host-tuple"])?;
    let edges = "normal,no-proc-macro";
    let tree = ["tree", "-p", ours, "-e", edges, "--prefix", "none", "--target", host.trim(), "-f", "{p}"];
    let lines = crate::output("cargo", &tree)?;
    // cargo prints our own crates with their directory.
    let crates = lines.lines().filter(|line| !line.contains(" (/")).filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
    });
    Ok(crates.collect())
}

/// Name, version and directory of every crate that cargo has downloaded.
fn folders() -> Result<Vec<(String, String, PathBuf)>, String> {
    let metadata = crate::output("cargo", &["metadata", "--format-version", "1"])?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let folder = |package: &Value| {
        let manifest = PathBuf::from(text(package, "manifest_path"));
        Some((text(package, "name"), text(package, "version"), manifest.parent()?.to_owned()))
    };
    Ok(packages.iter().filter_map(folder).collect())
}

fn licence(
    folders: &[(String, String, PathBuf)],
    name: &str,
    version: &str,
) -> Result<(&'static str, PathBuf), String> {
    let same = SAME_TEXT.iter().find(|(without, _)| *without == name).map(|(_, with)| *with);
    let known = folders.iter().find(|(a, b, _)| same.map_or(a == name && b == version, |same| a == same));
    let (_, _, folder) = known.ok_or_else(|| format!("cargo has not fetched {name} {version}"))?;
    let found =
        TEXTS.iter().map(|(file, licence)| (*licence, folder.join(file))).find(|(_, text)| text.exists());
    let (licence, text) =
        found.ok_or_else(|| format!("{name} {version} has no licence text that is known"))?;
    if !licence.is_empty() {
        return Ok((licence, text));
    }
    let content = crate::read(&text)?;
    let known = [
        ("Permission is hereby granted, free of charge", "MIT"),
        ("Redistribution and use in source and binary forms", "BSD-2-Clause"),
        ("This software is provided 'as-is'", "Zlib"),
        ("Apache License", "Apache-2.0"),
        ("*ring*", "Apache-2.0 AND ISC"),
        ("Permission to use, copy, modify, and/or distribute this software", "ISC"),
    ];
    let licence = known.iter().find(|(words, _)| content.contains(words)).map(|(_, licence)| *licence);
    licence.map(|licence| (licence, text)).ok_or_else(|| format!("{name} {version}: which licence is that?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_notice_is_the_generated_one() {
        std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .expect("the repository is there");
        let committed = crate::read(Path::new(NOTICE)).expect("it is there");
        assert!(
            committed == generated().expect("it is generated"),
            "NOTICE is old; run `cargo xtask notice`"
        );
    }

    #[test]
    fn the_notice_names_what_is_linked_in_with_its_text() {
        let notice = include_str!("../../../NOTICE");
        for words in [
            "GNU LESSER GENERAL PUBLIC LICENSE",
            "GNU GENERAL PUBLIC LICENSE",
            "serde_json",
            "zlib",
            "clap_builder",
        ] {
            assert!(notice.contains(words), "{words}");
        }
        assert!(notice.contains("Apache License"), "WAMR's");
    }
}
