//! Generates the manual page eunomia(3) from the comments and declarations in the header.

use crate::header::HEADER;
use std::fmt::Write as _;
use std::path::Path;

/// Writes the page.
pub fn write(page: &str) -> Result<(), String> {
    crate::write(Path::new(page), &generated(&crate::read(Path::new(HEADER))?)?)
}

fn generated(header: &str) -> Result<String, String> {
    let version = number(header, "EUNOMIA_VERSION_MAJOR")?.to_owned()
        + "."
        + number(header, "EUNOMIA_VERSION_MINOR")?
        + "."
        + number(header, "EUNOMIA_VERSION_PATCH")?;
    let mut page = format!(
        ".TH EUNOMIA 3 \"\" \"libeunomia {version}\" \"Library Functions Manual\"\n.nh\n.SH NAME\n\
         eunomia \\- load, configure and run eBPF packages inside any program\n.SH LIBRARY\n\
         libeunomia (\\-leunomia, pkg\\-config eunomia)\n.SH SYNOPSIS\n.nf\n#include <eunomia.h>\n.fi\n"
    );
    let (introduction, declarations) = header.split_once("#ifndef EUNOMIA_H").ok_or("no include guard")?;
    introduce(&mut page, introduction);
    page += ".SH TYPES AND CONSTANTS\n";
    for block in blocks(declarations) {
        declare(&mut page, &block);
    }
    Ok(page)
}

/// The number after `#define NAME`.
fn number<'a>(header: &'a str, name: &str) -> Result<&'a str, String> {
    let define = format!("#define {name} ");
    let line = header.lines().find_map(|line| line.strip_prefix(&define));
    line.and_then(|rest| rest.split(' ').next()).ok_or_else(|| format!("{HEADER}: no {name}"))
}

/// The first comment of the header. A line without indentation is the title of the indented lines below it.
fn introduce(page: &mut String, text: &str) {
    let lines = text.lines().filter_map(|line| line.strip_prefix("//")).skip(3);
    for line in lines {
        match line.strip_prefix(' ') {
            None => *page += ".fi\n",
            Some(line) if !line.starts_with(' ') => {
                let _ = writeln!(page, ".SH {}\n.nf", quoted(&line.to_uppercase()));
            }
            Some(line) => *page += &shown(line.strip_prefix("  ").unwrap_or(line)),
        }
    }
    *page += ".fi\n";
}

/// A comment and the declaration it belongs to.
struct Block {
    comment: Vec<String>,
    code: Vec<String>,
}

/// Splits at empty lines outside of braces; the braces of `extern "C"` do not count.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut current, mut depth) = (Vec::new(), 0i32);
    for line in text.lines().filter(|line| !line.contains("extern \"C\"")) {
        depth += line.matches('{').count() as i32 - line.matches('}').count() as i32;
        if line.is_empty() && depth <= 0 {
            blocks.extend(block(std::mem::take(&mut current)));
        } else {
            current.push(line.to_owned());
        }
    }
    blocks.extend(block(current));
    blocks
}

/// `None` for preprocessor lines, which are not part of the manual.
fn block(lines: Vec<String>) -> Option<Block> {
    let split = lines.iter().position(|line| !line.starts_with("//")).unwrap_or(lines.len());
    let code = lines[split..].to_vec();
    let comment: Vec<String> = lines[..split].iter().map(|line| uncommented(line).to_owned()).collect();
    (!comment.is_empty() && !code.is_empty()).then_some(Block { comment, code })
}

/// The text of a comment line, with its indentation.
fn uncommented(line: &str) -> &str {
    let text = line.trim_start_matches('/').trim_end();
    text.strip_prefix(' ').unwrap_or(text)
}

/// A heading `---- TITLE ----` begins a section. The declaration comes first, then its description.
fn declare(page: &mut String, block: &Block) {
    let mut comment = block.comment.as_slice();
    if let Some(title) = comment[0].strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
        let _ = writeln!(page, ".SH {}", quoted(&title.to_uppercase()));
        comment = &comment[1..];
    }
    *page += ".PP\n.nf\n";
    block.code.iter().for_each(|line| *page += &shown(line));
    *page += ".fi\n.RS\n";
    describe(page, comment);
    *page += ".RE\n";
}

/// Paragraphs are filled; indented lines, such as parameters and errors, stay as they are.
fn describe(page: &mut String, comment: &[String]) {
    let mut is_list = false;
    for line in comment.iter().skip_while(|line| line.is_empty()) {
        if is_list != line.starts_with(' ') {
            is_list = !is_list;
            *page += if is_list { ".nf\n" } else { ".fi\n" };
        }
        *page += &if line.is_empty() { ".sp\n".to_owned() } else { shown(line) };
    }
    if is_list {
        *page += ".fi\n";
    }
}

/// A line of text in troff's notation.
fn shown(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
    format!("{guard}{line}\n")
}

fn quoted(title: &str) -> String {
    format!("\"{}\"", title.replace('"', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_in_the_page_with_its_text() {
        let header = include_str!("../../../include/eunomia.h");
        let page = generated(header).expect("a page");
        let names = include_str!("../../../tests/data/abi/symbols.txt");
        let missing: Vec<&str> = names.lines().filter(|name| !page.contains(&format!("{name}("))).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(page.contains(".SH \"MAPS, BY NAME\"\n"));
        assert!(page.contains(".sp\n.nf\n  name  name of the map\n"), "a list of parameters is not filled");
        assert!(page.contains("Deletes a key and its value."));
        assert!(
            page.contains("int eunomia_detach(struct eunomia_vm *vm);\n.fi\n.RS\nDetaches all programs.")
        );
    }

    #[test]
    fn troff_sees_no_command_in_a_text() {
        assert_eq!(shown(".so /etc/passwd"), "\\&.so /etc/passwd\n");
        assert_eq!(shown("a-b\\c"), "a\\-b\\ec\n");
    }
}
