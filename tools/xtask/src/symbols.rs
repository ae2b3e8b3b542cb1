//! Exported symbols: library, header and committed list must agree, so that no change goes unnoticed.

use crate::header::HEADER;
use std::collections::BTreeSet;
use std::path::Path;

/// The committed list, one name per line.
const LIST: &str = "tests/data/abi/symbols.txt";

type Names = BTreeSet<String>;

/// Compares the exports of `library` and the declarations in the header with the committed list.
pub fn check(library: &str) -> Result<(), String> {
    let listed: Names = crate::read(Path::new(LIST))?.lines().map(str::to_string).collect();
    let declared = declared(&crate::read(Path::new(HEADER))?);
    let exported = exported(library)?;
    compare(HEADER, &declared, LIST, &listed)?;
    compare(library, &exported, HEADER, &declared)?;
    println!("{library}: exports the {} names of {HEADER}", exported.len());
    Ok(())
}

/// Writes the names that the header declares to the committed list.
pub fn write() -> Result<(), String> {
    let names = declared(&crate::read(Path::new(HEADER))?);
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    crate::write(Path::new(LIST), &lines)
}

fn compare(left: &str, left_names: &Names, right: &str, right_names: &Names) -> Result<(), String> {
    let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let only_left = list(left_names.difference(right_names).collect());
    let only_right = list(right_names.difference(left_names).collect());
    if only_left.is_empty() && only_right.is_empty() {
        return Ok(());
    }
    Err(format!("only in {left}: [{only_left}]; only in {right}: [{only_right}]"))
}

/// The dynamic symbols that a shared library defines, or the global ones of a static library.
fn exported(library: &str) -> Result<Names, String> {
    let kind = if library.ends_with(".a") { "--extern-only" } else { "--dynamic" };
    let symbols = crate::output("nm", &[kind, "--defined-only", "--format=posix", library])?;
    let names = symbols.lines().filter(|line| !line.ends_with(':'));
    Ok(names
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(str::to_string)
        .collect())
}

/// The functions that a C header declares: each identifier of the library before an opening parenthesis, outside of
/// comments.
fn declared(header: &str) -> Names {
    let code = without_comments(header);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let before_parentheses = code.split('(').map(|text| text.trim_end());
    let names = before_parentheses.filter_map(|text| text.rsplit(|c| !is_name(c)).next());
    names.filter(|name| name.starts_with("eunomia_")).map(str::to_string).collect()
}

fn without_comments(header: &str) -> String {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    code.push_str(rest);
    code.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Names {
        list.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn functions_are_found_and_types_and_comments_are_not() {
        let header = "/* eunomia_old(void) */\ntypedef int (*eunomia_event_fn)(void *arg);\n\
                      // eunomia_older(void)\nvoid eunomia_destroy(struct eunomia_vm *vm);\n\
                      const char *eunomia_errmsg (const eunomia_vm *vm);\n";
        assert_eq!(declared(header), names(&["eunomia_destroy", "eunomia_errmsg"]));
    }

    #[test]
    fn a_difference_names_both_sides() {
        let error = compare("a", &names(&["x", "y"]), "b", &names(&["y", "z"])).expect_err("they differ");
        assert_eq!(error, "only in a: [x]; only in b: [z]");
        assert_eq!(compare("a", &names(&["x"]), "b", &names(&["x"])), Ok(()));
    }
}
