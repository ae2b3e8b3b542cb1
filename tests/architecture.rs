//! The rules of docs/ARCHITECTURE.md that a compiler does not check: which part may import which, where `unsafe` and C
//! libraries may be used, and how long a C function may be.
//!
//! Each rule is a function that returns a list of problems. One test applies it to every file, one shows that it finds
//! the problem in a file that has one.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The parts of src/ and what each may import; `lib.rs` only lists them.
const LAYERS: [(&str, &[&str]); 14] = [
    ("error", &[]),
    ("log", &["error"]),
    ("memory", &["error", "os"]),
    ("number", &[]),
    ("zlib", &[]),
    ("os", &["error"]),
    ("package", &["error", "memory", "number", "zlib"]),
    ("btf", &["error", "memory"]),
    ("types", &["error", "number", "btf"]),
    ("render", &["error", "types"]),
    ("bpf", &["error", "log", "memory", "os", "package", "btf", "types", "render"]),
    ("wasm", &["error", "log", "memory", "os", "package", "types", "render", "bpf"]),
    ("vm", &["error", "log", "memory", "os", "package", "types", "render", "bpf", "wasm"]),
    ("capi", &["error", "log", "os", "types", "vm"]),
];

/// The parts of tools/ecc/src and what each may import; `main.rs` starts the commands.
const ECC_LAYERS: [(&str, &[&str]); 10] = [
    ("error", &[]),
    ("files", &["error"]),
    ("object", &["error"]),
    ("btfgen", &["error", "files", "object"]),
    ("toolchain", &["error", "files", "object"]),
    ("options", &["error", "btfgen", "toolchain"]),
    ("analysis", &["error", "object"]),
    ("compile", &["error", "files", "object", "btfgen", "toolchain", "options", "analysis"]),
    ("output", &["error", "files", "object", "btfgen", "toolchain", "options", "compile"]),
    ("commands", &["error", "files", "toolchain", "options", "compile", "output"]),
];

/// Parts that only compute: the result depends on the input alone, so that they can be fuzzed. They use no file, clock,
/// environment, thread or C function, and import only each other.
const PURE: [&str; 8] = ["error", "memory", "number", "zlib", "package", "btf", "types", "render"];
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::time",
    "std::os",
    "libc::",
    "extern\"C\"",
];
/// The exceptions: what pure parts use nevertheless.
const IMPURE_ALLOWED: [(&str, &str); 4] = [
    ("memory", "os"),          // asks the kernel whether it has memory for an input
    ("number", "libc::"),      // the locale of strtod
    ("number", "extern\"C\""), // strtod
    ("zlib", "extern\"C\""),   // zlib
];

/// The only files that may contain `unsafe`.
const UNSAFE_ALLOWED: [&str; 9] = [
    "src/capi/",
    "src/bpf/sys/",
    "src/wasm/sys/",
    "src/number.rs",
    "src/os/",
    "src/zlib.rs",
    "tools/agent/src/loader/inherited.rs",
    "tools/agent/src/log/shared.rs",
    "tools/ecc/src/object/libbpf.rs",
];

/// The crates of C libraries, and the only files that may use them.
const FOREIGN: [(&str, &[&str]); 2] =
    [("libbpf_sys", &["src/bpf/sys/", "tools/ecc/src/object/libbpf.rs"]), ("wamr_sys", &["src/wasm/sys/"])];

/// Maximum number of lines between the braces of an `extern "C"` function in src/capi.
const MAX_C_FUNCTION_LINES: usize = 10;

// ---- the rules ------------------------------------------------------------------------------------------------

/// A file of the library imports only what its part may import.
fn import_problems(file: &File) -> Vec<String> {
    import_problems_among(file, &LAYERS)
}

/// A file of ecc imports only what its part may import. Paths are those of [`ecc_files`].
fn ecc_import_problems(file: &File) -> Vec<String> {
    import_problems_among(file, &ECC_LAYERS)
}

fn import_problems_among(file: &File, layers: &[(&str, &[&str])]) -> Vec<String> {
    let Some(part) = part_of(&file.path) else { return Vec::new() };
    let Some((_, allowed)) = layers.iter().find(|(name, _)| *name == part) else {
        return vec![format!("{}: {part} is not a part in the list of the architecture", file.path)];
    };
    let is_forbidden = |name: &str| name != part && !allowed.contains(&name);
    references(file)
        .into_iter()
        .filter(|reference| is_forbidden(reference.path.first().map_or("the crate's root", String::as_str)))
        .map(|to| format!("{}:{}: {part} must not import {}", file.path, to.line, to.path.join("::")))
        .collect()
}

/// The files of a part do not import each other in circles; a `mod.rs` is a file like any other.
fn cycle_problems(files: &[File]) -> Vec<String> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let imports = |file: &File| -> BTreeSet<&str> {
        let targets = references(file).into_iter().filter_map(|to| file_of(&to.path, &paths));
        targets.filter(|target| *target != file.path && part_of(target) == part_of(&file.path)).collect()
    };
    let imports: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|file| (file.path.as_str(), imports(file))).collect();
    let edges = imports.iter().flat_map(|(from, targets)| targets.iter().map(move |to| (*from, *to)));
    edges
        .filter(|(from, to)| leads_to(&imports, to, from))
        .map(|(from, to)| format!("{from} imports {to}, which imports {from}, perhaps by way of other files"))
        .collect()
}

/// Whether `from` imports `to`, directly or by way of other files.
fn leads_to(imports: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str) -> bool {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
    while let Some(path) = waiting.pop() {
        if seen.insert(path) {
            waiting.extend(&imports[path]);
        }
    }
    seen.contains(to)
}

/// A pure part only computes.
fn purity_problems(file: &File) -> Vec<String> {
    let part = part_of(&file.path).unwrap_or_default();
    if !PURE.contains(&part.as_str()) {
        return Vec::new();
    }
    let code: String = file.tokens.iter().map(|token| token.text.as_str()).collect();
    let names = IMPURE.into_iter().filter(|name| code.contains(name)).map(str::to_owned);
    let parts = references(file).into_iter().filter_map(|to| to.path.into_iter().next());
    let impure_parts = parts.filter(|name| !PURE.contains(&name.as_str()));
    let found = names.chain(impure_parts).filter(|name| !IMPURE_ALLOWED.contains(&(&part, name)));
    found.map(|name| format!("{}: {part} is pure and must not use {name}", file.path)).collect()
}

/// `unsafe` is used only where it is allowed.
fn unsafe_problems(file: &File) -> Vec<String> {
    word_problems(file, "unsafe", &UNSAFE_ALLOWED)
}

/// libbpf and WAMR are used only by their wrappers.
fn foreign_problems(file: &File) -> Vec<String> {
    FOREIGN.iter().flat_map(|(name, allowed)| word_problems(file, name, allowed)).collect()
}

/// A C function in src/capi converts its arguments and calls another function, which does the work.
fn length_problems(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/capi/") {
        return Vec::new();
    }
    let long = c_functions(&file.tokens).into_iter().filter(|(_, lines)| *lines > MAX_C_FUNCTION_LINES);
    long.map(|(name, lines)| {
        format!("{}: {name} has {lines} lines, at most {MAX_C_FUNCTION_LINES}", file.path)
    })
    .collect()
}

// ---- reading Rust ---------------------------------------------------------------------------------------------

/// A Rust file of the project.
struct File {
    path: String,
    tokens: Vec<Token>,
}

impl File {
    fn new(path: &str, source: &str) -> File {
        let mut tokens = Vec::new();
        flatten(source.parse().expect("a committed file is valid Rust"), &mut tokens);
        File { path: path.to_owned(), tokens }
    }
}

/// One identifier, literal, punctuation character or bracket. Comments are not tokens.
struct Token {
    text: String,
    line: usize,
}

fn flatten(stream: TokenStream, flat: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let TokenTree::Group(group) = tree else {
            flat.push(Token { text: tree.to_string(), line });
            continue;
        };
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        flat.push(Token { text: open.to_string(), line });
        flatten(group.stream(), flat);
        flat.push(Token { text: close.to_string(), line: group.span().end().line });
    }
}

fn word_problems(file: &File, word: &str, allowed: &[&str]) -> Vec<String> {
    if allowed.iter().any(|start| file.path.starts_with(start)) {
        return Vec::new();
    }
    let found = file.tokens.iter().filter(|token| token.text == word);
    found.map(|token| format!("{}:{}: {word} must not be used here", file.path, token.line)).collect()
}

/// The module of a file in src/, as a path from the crate's root.
fn module_of(path: &str) -> Option<Vec<String>> {
    let module = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let module = module.strip_suffix("/mod").unwrap_or(module);
    Some(module.split('/').filter(|name| *name != "lib").map(str::to_owned).collect())
}

/// The part of src/ that `path` belongs to.
fn part_of(path: &str) -> Option<String> {
    module_of(path)?.into_iter().next()
}

/// The file that contains an item: that of the longest path which is a module.
fn file_of<'a>(item: &[String], paths: &BTreeSet<&'a str>) -> Option<&'a str> {
    (1..=item.len()).rev().find_map(|len| {
        let module = item[..len].join("/");
        let names = [format!("src/{module}.rs"), format!("src/{module}/mod.rs")];
        names.iter().find_map(|name| paths.get(name.as_str()).copied())
    })
}

/// An item of the crate that a file names, as a path from the crate's root.
struct Reference {
    line: usize,
    path: Vec<String>,
}

/// The items of the crate that a file names by a path: one that begins with `crate`, `super`, `self` or a module that the
/// file declares.
fn references(file: &File) -> Vec<Reference> {
    let Some(mut module) = module_of(&file.path) else { return Vec::new() };
    let tokens = &file.tokens;
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let declared: Vec<&str> = (0..tokens.len())
        .filter(|index| text(*index) == "mod" && text(index + 2) == ";")
        .map(|index| text(index + 1))
        .collect();
    let mut found = Vec::new();
    // The braces that are open, each with whether it is that of a module inside the file.
    let mut braces = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let word = text(index);
        let begins = is_separator(tokens, index + 1) && !(index >= 2 && is_separator(tokens, index - 2));
        match word {
            "{" => {
                let is_module = index >= 2 && text(index - 2) == "mod";
                braces.push(is_module);
                if is_module {
                    module.push(text(index - 1).to_owned());
                }
            }
            "}" if braces.pop() == Some(true) => drop(module.pop()),
            "crate" if begins => {
                index += 3;
                found.extend(paths(tokens, &mut index, Vec::new()));
                continue;
            }
            word if begins && (matches!(word, "self" | "super") || declared.contains(&word)) => {
                found.extend(paths(tokens, &mut index, module.clone()));
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    found
}

fn is_separator(tokens: &[Token], index: usize) -> bool {
    tokens.get(index..index + 2).is_some_and(|pair| pair.iter().all(|token| token.text == ":"))
}

/// The paths of the tree at `index`, such as `a::{b, super::c}`, relative to `base`; leaves `index` after the tree.
fn paths(tokens: &[Token], index: &mut usize, mut base: Vec<String>) -> Vec<Reference> {
    loop {
        let Token { text, line } = &tokens[*index];
        *index += 1;
        match text.as_str() {
            "self" => {}
            "super" => drop(base.pop()),
            "{" => {
                let mut found = Vec::new();
                while tokens[*index].text != "}" {
                    match tokens[*index].text.as_str() {
                        "," => *index += 1,
                        "as" => *index += 2,
                        _ => found.extend(paths(tokens, index, base.clone())),
                    }
                }
                *index += 1;
                return found;
            }
            name => base.push(name.to_owned()),
        }
        if !is_separator(tokens, *index) {
            return vec![Reference { line: *line, path: base }];
        }
        *index += 2;
    }
}

/// The name and the number of body lines of each `extern "C"` function that has a body.
fn c_functions(tokens: &[Token]) -> Vec<(String, usize)> {
    let mut functions = Vec::new();
    for (start, window) in tokens.windows(4).enumerate() {
        let [keyword, abi, function, name] = window else { continue };
        if keyword.text != "extern" || abi.text != "\"C\"" || function.text != "fn" || name.text == "(" {
            continue;
        }
        let Some(open) = tokens[start..].iter().position(|token| token.text == "{" || token.text == ";")
        else {
            continue;
        };
        if tokens[start + open].text == "{" {
            functions.push((name.text.clone(), body_lines(&tokens[start + open..])));
        }
    }
    functions
}

/// The number of lines between the braces of the group that `tokens` starts with.
fn body_lines(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for token in tokens {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (token.line - tokens[0].line).saturating_sub(1);
        }
    }
    unreachable!("brackets of a token stream are balanced")
}

// ---- finding the files ----------------------------------------------------------------------------------------

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `directory` with one of `endings`, relative to the root.
fn files(directory: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of the project") {
            let path: PathBuf = entry.expect("an entry").path();
            let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                directories.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect("a text file")
}

/// The Rust files of the library and the tools; they are read once for all tests.
fn rust_files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let paths = [files("src", &[".rs"]), files("tools", &[".rs"])].concat();
        paths.iter().map(|path| File::new(path, &read(path))).collect()
    })
}

/// The files of ecc, with paths relative to its crate.
fn ecc_files() -> Vec<File> {
    let paths = files("tools/ecc/src", &[".rs"]);
    let inside = paths.iter().filter_map(|path| Some((path, path.strip_prefix("tools/ecc/")?)));
    inside
        .filter(|(_, name)| *name != "src/main.rs")
        .map(|(path, name)| File::new(name, &read(path)))
        .collect()
}

/// Applies `rule` to every Rust file.
fn check(rule: fn(&File) -> Vec<String>) {
    assert_no_problems(rust_files().iter().flat_map(rule).collect());
}

fn assert_no_problems(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

// ---- the tests ------------------------------------------------------------------------------------------------

#[test]
fn parts_import_only_what_they_may() {
    check(import_problems);
}

#[test]
fn parts_of_ecc_import_only_what_they_may() {
    assert_no_problems(ecc_files().iter().flat_map(ecc_import_problems).collect());
    assert_no_problems(cycle_problems(&ecc_files()));
}

#[test]
fn a_forbidden_import_in_ecc_is_found() {
    let found = |path, source| ecc_import_problems(&File::new(path, source)).len();
    assert_eq!(found("src/object/elf.rs", "use crate::error::Error;"), 0);
    assert_eq!(found("src/object/elf.rs", "use crate::{error, analysis::events};"), 1);
    assert_eq!(found("src/analysis/events.rs", "fn f() { crate::toolchain::clang::run() }"), 1);
    assert_eq!(found("src/utils.rs", ""), 1);
}

#[test]
fn a_forbidden_import_is_found_in_every_spelling() {
    let found = |path, source| import_problems(&File::new(path, source)).len();
    assert_eq!(found("src/types/encode.rs", "use crate::error::Error;"), 0);
    assert_eq!(found("src/types/encode.rs", "use crate::types::layout; // crate::vm"), 0);
    assert_eq!(found("src/types/encode.rs", "use crate::vm::Vm;"), 1);
    assert_eq!(found("src/types/encode.rs", "use crate::{error::{Error, Status}, bpf, package};"), 2);
    assert_eq!(found("src/types/encode.rs", "fn f() { crate::bpf::open() }"), 1);
    assert_eq!(found("src/types/encode.rs", "use crate::Vm;"), 1);
    assert_eq!(found("src/types/mod.rs", "use super::bpf;"), 1);
    assert_eq!(found("src/types/encode.rs", "use super::super::bpf;"), 1);
    assert_eq!(found("src/types/encode.rs", "use super::{layout, super::{bpf::{self, x as y}, vm}};"), 3);
    assert_eq!(
        found("src/types/encode.rs", "mod tests { use super::super::super::bpf; use super::layout; }"),
        1
    );
    assert_eq!(found("src/types/encode.rs", "use super::layout;"), 0);
    assert_eq!(found("src/vm/mod.rs", "use crate::capi::guard;"), 1);
    assert_eq!(found("src/capi/mod.rs", "use crate::bpf::Object;"), 1);
    assert_eq!(found("src/utils.rs", ""), 1);
}

#[test]
fn no_files_of_a_part_import_each_other_in_circles() {
    assert_no_problems(cycle_problems(rust_files()));
}

#[test]
fn a_cycle_is_found_in_every_spelling() {
    let found = |a: &str, b: &str, root: &str| {
        let files =
            [("src/types/a.rs", a), ("src/types/b.rs", b), ("src/types/mod.rs", root), ("src/error.rs", "")];
        cycle_problems(&files.map(|(path, source)| File::new(path, source))).len()
    };
    let modules = "mod a; mod b;";
    assert_eq!(found("use super::b::f;", "use crate::error::Error;", modules), 0, "one direction");
    assert_eq!(found("use super::b::f;", "use super::a::g;", modules), 2, "super");
    assert_eq!(found("use crate::types::b;", "use crate::types::{a::{g, h}};", modules), 2, "crate");
    assert_eq!(
        found("fn f() { super::b::f() }", "fn g() { self::super::a::g() }", modules),
        2,
        "in a function"
    );
    assert_eq!(
        found("use super::super::types::b;", "mod tests { use super::super::a; }", modules),
        2,
        "a module inside"
    );
    assert_eq!(
        found("use super::Type;", "", "mod a; mod b; pub use a::g;"),
        2,
        "mod.rs, by the module's name"
    );
    assert_eq!(found("use super::Type;", "", "mod a; mod b; use self::a::g;"), 2, "mod.rs, by self");
    assert_eq!(found("use super::Type;", "", "mod a; mod b; fn f() { a::g() }"), 2, "mod.rs, in a function");
    assert_eq!(
        found("use super::Type;", "use super::*;", "mod a; mod b; pub struct Type;"),
        0,
        "mod.rs imports nothing"
    );
    assert_eq!(found("use super::b;", "use super::Type;", "mod a; mod b; use a::g;"), 3, "over three files");
    assert_eq!(found("mod tests { use super::*; }", "use super::a;", modules), 0, "a test uses its own file");
}

#[test]
fn pure_parts_only_compute() {
    check(purity_problems);
}

#[test]
fn an_impure_name_in_a_pure_part_is_found() {
    let found = |path, source| purity_problems(&File::new(path, source)).len();
    assert_eq!(found("src/package/json.rs", "fn f() { std::fs::read(\"p\"); }"), 1);
    assert_eq!(found("src/render/json.rs", "fn f() { libc::time() }"), 1);
    assert_eq!(found("src/render/json.rs", "use crate::os::boot_time;"), 1);
    assert_eq!(found("src/render/json.rs", "fn f() { super::super::os::boot_time() }"), 1);
    assert_eq!(found("src/render/json.rs", "unsafe extern \"C\" { fn time(); }"), 1);
    assert_eq!(found("src/render/json.rs", "use crate::types::Type; // std::fs"), 0);
    assert_eq!(found("src/zlib.rs", "use crate::os;"), 1);
    assert_eq!(found("src/vm/mod.rs", "use std::fs;"), 0);
}

#[test]
fn unsafe_is_used_only_where_it_is_allowed() {
    check(unsafe_problems);
}

#[test]
fn unsafe_elsewhere_is_found() {
    assert_eq!(unsafe_problems(&File::new("src/vm/mod.rs", "fn f() { unsafe { g() } }")).len(), 1);
    assert_eq!(unsafe_problems(&File::new("tools/ecc/src/main.rs", "unsafe impl Send for A {}")).len(), 1);
    assert_eq!(unsafe_problems(&File::new("src/bpf/sys/map.rs", "fn f() { unsafe { g() } }")).len(), 0);
    assert_eq!(unsafe_problems(&File::new("src/vm/mod.rs", "//! unsafe\nfn f() { \"unsafe\" }")).len(), 0);
}

#[test]
fn the_crate_denies_unsafe_code() {
    assert!(read("src/lib.rs").contains("#![deny(unsafe_code)]"), "src/lib.rs lacks #![deny(unsafe_code)]");
}

#[test]
fn c_libraries_are_used_only_by_their_wrappers() {
    check(foreign_problems);
}

#[test]
fn a_c_library_used_elsewhere_is_found() {
    assert_eq!(foreign_problems(&File::new("src/bpf/map.rs", "use libbpf_sys::bpf_map;")).len(), 1);
    assert_eq!(
        foreign_problems(&File::new("src/vm/mod.rs", "fn f() { wamr_sys::wasm_runtime_init() }")).len(),
        1
    );
    assert_eq!(foreign_problems(&File::new("src/bpf/sys/map.rs", "use libbpf_sys::bpf_map;")).len(), 0);
}

#[test]
fn c_functions_are_short() {
    check(length_problems);
}

#[test]
fn a_long_c_function_is_found() {
    let function =
        |lines: usize| format!("pub extern \"C\" fn f(a: u8) -> i32 {{\n{}}}", "g();\n".repeat(lines));
    assert_eq!(length_problems(&File::new("src/capi/events.rs", &function(MAX_C_FUNCTION_LINES))).len(), 0);
    assert_eq!(
        length_problems(&File::new("src/capi/events.rs", &function(MAX_C_FUNCTION_LINES + 1))).len(),
        1
    );
    assert_eq!(length_problems(&File::new("src/vm/mod.rs", &function(MAX_C_FUNCTION_LINES + 1))).len(), 0);
}
