//! Builds the site: one mdBook from README, docs/ and the READMEs of the examples and bindings. `make docs` calls it.
//!
//! Pages keep their paths, so that links among them work in the repository and on the site. A link to any other file
//! becomes a link to the file's page on the web. A link without a target is an error, and so is a page of docs/ without
//! a chapter.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

const REPOSITORY: &str = "https://github.com/eunomia-bpf/libeunomia";
/// The directories that mdBook reads, and to which it writes the site.
const BOOK: &str = "target/book";
const SITE: &str = "target/site";

/// The chapters: title and file; a title without a file begins a part.
const CHAPTERS: [(&str, &str); 30] = [
    ("libeunomia", "README.md"),
    ("Use", ""),
    ("Manual", "docs/manual.md"),
    ("使用手册", "docs/manual.zh.md"),
    ("ecc, the compiler", "docs/ecc.md"),
    ("ecc in a container", "tools/container/README.md"),
    ("ecli, the command line", "docs/ecli.md"),
    ("The server", "docs/agent.md"),
    ("The exporter", "docs/exporter.md"),
    ("Example programs", "examples/bpf/README.md"),
    ("Example WASM guests", "examples/wasm/README.md"),
    ("A repository for a program", "examples/template/README.md"),
    ("Python", "bindings/python/README.md"),
    ("Go", "bindings/go/README.md"),
    ("Reference", ""),
    ("The package format", "docs/package.md"),
    ("Replacing a running package", "docs/replace.md"),
    ("WASM packages", "docs/wasm.md"),
    ("Security", "docs/security.md"),
    ("Kernels", "docs/kernels.md"),
    ("Benchmarks", "docs/benchmarks.md"),
    ("Performance", "docs/performance.md"),
    ("The C interface as a binary contract", "docs/ABI.md"),
    ("Changes", "CHANGELOG.md"),
    ("Development", ""),
    ("Contributing", "CONTRIBUTING.md"),
    ("Architecture", "docs/ARCHITECTURE.md"),
    ("Testing", "docs/testing.md"),
    ("Releasing", "docs/RELEASING.md"),
    ("Reporting a vulnerability", "SECURITY.md"),
];

/// Builds the site with this mdBook.
pub fn build(mdbook: &str) -> Result<(), String> {
    every_document_is_a_chapter()?;
    let _ = fs::remove_dir_all(BOOK);
    for (_, page) in chapters() {
        let text = with_absolute_links(page, &crate::read(Path::new(page))?)?;
        write(&Path::new(BOOK).join("src").join(page), &text)?;
    }
    write(&Path::new(BOOK).join("src/SUMMARY.md"), &summary())?;
    write(&Path::new(BOOK).join("book.toml"), &configuration())?;
    let site = std::path::absolute(SITE).map_err(|error| error.to_string())?;
    let status = Command::new(mdbook).args(["build", BOOK, "--dest-dir"]).arg(&site).status();
    if !status.map_err(|error| format!("{mdbook}: {error}"))?.success() {
        return Err(format!("{mdbook} failed"));
    }
    let broken: Vec<String> = chapters().flat_map(|(_, page)| broken_links(page)).collect();
    if broken.is_empty() { Ok(()) } else { Err(format!("broken links:\n{}", broken.join("\n"))) }
}

fn chapters() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    CHAPTERS.iter().filter(|(_, page)| !page.is_empty())
}

fn every_document_is_a_chapter() -> Result<(), String> {
    let documents = fs::read_dir("docs").map_err(|error| format!("docs: {error}"))?;
    for document in documents.flatten() {
        let path = format!("docs/{}", document.file_name().to_string_lossy());
        if path.ends_with(".md") && !chapters().any(|(_, page)| *page == path) {
            return Err(format!("{path}: no chapter of the site; add it in tools/xtask/src/site.rs"));
        }
    }
    Ok(())
}

fn summary() -> String {
    let line = |(title, page): &(&str, &str)| match *page {
        "" => format!("\n# {title}\n\n"),
        "README.md" => format!("[{title}]({page})\n"),
        _ => format!("- [{title}]({page})\n"),
    };
    CHAPTERS.iter().map(line).collect()
}

fn configuration() -> String {
    format!(
        "[book]\ntitle = \"libeunomia\"\nsrc = \"src\"\n\n[output.html]\ngit-repository-url = \"{REPOSITORY}\"\n\
         no-section-label = true\n\n[output.html.fold]\nenable = false\n"
    )
}

/// The text of a page. Links to files without a page become links to the repository.
fn with_absolute_links(page: &str, text: &str) -> Result<String, String> {
    let mut replaced = String::new();
    let mut in_code = false;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let mut rest = line;
        while let Some((before, target, after)) = (!in_code).then(|| next_link(rest)).flatten() {
            replaced += before;
            replaced += &absolute_link(page, target)?;
            rest = after;
        }
        replaced += rest;
    }
    Ok(replaced)
}

/// The first link of a line: what precedes its target, the target, and what follows.
fn next_link(line: &str) -> Option<(&str, &str, &str)> {
    let start = line.find("](")? + 2;
    let end = start + line[start..].find(')')?;
    Some((&line[..start], &line[start..end], &line[end..]))
}

fn absolute_link(page: &str, target: &str) -> Result<String, String> {
    if target.starts_with('#') || target.contains("://") || target.starts_with("mailto:") {
        return Ok(target.to_owned());
    }
    let path = resolved(page, target.split('#').next().unwrap_or_default());
    if chapters().any(|(_, page)| Path::new(page) == path) {
        // mdBook renames these files, but not the links to them.
        return Ok(target.replace("README.md", "index.md"));
    }
    if !path.exists() {
        return Err(format!("{page}: link to {target}, which does not exist"));
    }
    let kind = if path.is_dir() { "tree" } else { "blob" };
    Ok(format!("{REPOSITORY}/{kind}/main/{}", path.display()))
}

/// The path that `target` names in a file, relative to the root.
fn resolved(file: &str, target: &str) -> PathBuf {
    let mut path = Path::new(file).parent().map(Path::to_owned).unwrap_or_default();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

/// The links of a rendered page to files or anchors that the site does not have.
fn broken_links(page: &str) -> Vec<String> {
    let html_of = |page: &Path| -> PathBuf {
        let is_readme = page.file_name().is_some_and(|name| name == "README.md");
        Path::new(SITE).join(if is_readme {
            page.with_file_name("index.html")
        } else {
            page.with_extension("html")
        })
    };
    let text = fs::read_to_string(html_of(Path::new(page))).unwrap_or_default();
    let content = text.split_once("<main>").map_or("", |(_, content)| content);
    let targets: BTreeSet<&str> = attributes(content, "href=\"").collect();
    let is_broken = |target: &&str| {
        if target.contains(':') {
            return false;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let rendered = if file.is_empty() {
            html_of(Path::new(page))
        } else {
            Path::new(SITE).join(resolved(page, file))
        };
        let Ok(html) = fs::read_to_string(&rendered) else { return true };
        !anchor.is_empty() && !attributes(&html, "id=\"").any(|id| id == anchor)
    };
    if content.is_empty() {
        return vec![format!("{page}: not on the site")];
    }
    targets.into_iter().filter(is_broken).map(|target| format!("{page}: {target}")).collect()
}

/// The values of an attribute in HTML.
fn attributes<'a>(html: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    html.split(name).skip(1).filter_map(|rest| rest.split('"').next())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().expect("a file is in a directory");
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    crate::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_site_leads_to_the_repository() {
        std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).expect("the root");
        let link = |text: &str| with_absolute_links("docs/ecc.md", text);
        assert_eq!(link("see [this](package.md#progs).").unwrap(), "see [this](package.md#progs).");
        assert_eq!(link("[home](../README.md)").unwrap(), "[home](../index.md)");
        assert_eq!(
            link("[the license](../LICENSE) and [examples](../examples)").unwrap(),
            format!(
                "[the license]({REPOSITORY}/blob/main/LICENSE) and [examples]({REPOSITORY}/tree/main/examples)"
            )
        );
        assert_eq!(link("```\n[x](nowhere.md)\n```\n").unwrap(), "```\n[x](nowhere.md)\n```\n");
        let error = link("[x](nowhere.md)").unwrap_err();
        assert_eq!(error, "docs/ecc.md: link to nowhere.md, which does not exist");
    }

    #[test]
    fn every_page_can_be_staged() {
        std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).expect("the root");
        every_document_is_a_chapter().unwrap();
        for (_, page) in chapters() {
            with_absolute_links(page, &crate::read(Path::new(page)).unwrap()).unwrap();
        }
    }
}
