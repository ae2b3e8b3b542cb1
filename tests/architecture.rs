//! The rules of docs/ARCHITECTURE.md that a compiler does not check: who may import whom, where `unsafe` and libbpf
//! may be named, how long a C function may be, and what must not be committed.
//!
//! Each rule is a function from a path and a source text to the list of what is wrong there. One test holds it
//! against every file, one shows that it catches a file that breaks it.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::path::{Path, PathBuf};

/// The parts of src/ and what each may import; `lib.rs` only lists them.
const LAYERS: [(&str, &[&str]); 14] = [
    ("error", &[]),
    ("log", &["error"]),
    ("memory", &["error", "os"]),
    ("number", &[]),
    ("zlib", &[]),
    ("os", &["error", "log"]),
    ("package", &["error", "memory", "number", "zlib"]),
    ("btf", &["error", "memory"]),
    ("types", &["error", "number", "btf"]),
    ("render", &["error", "types"]),
    ("bpf", &["error", "log", "memory", "os", "package", "btf", "types", "render"]),
    ("wasm", &["error", "log", "memory", "os", "package", "types", "render", "bpf"]),
    ("vm", &["error", "log", "memory", "os", "package", "types", "render", "bpf", "wasm"]),
    ("capi", &["error", "log", "os", "types", "vm"]),
];

/// Layers that turn bytes into values and never touch the system, so that they can be fuzzed.
const PURE_LAYERS: [&str; 6] = ["btf", "error", "memory", "package", "render", "types"];
const IMPURE: [&str; 6] = ["std::fs", "std::net", "std::process", "std::env", "std::thread", "libc::"];

/// The only places where `unsafe` may stand; elsewhere the compiler's safety is not given up.
const UNSAFE_PLACES: [&str; 7] = [
    "src/capi/",
    "src/bpf/sys/",
    "src/wasm/sys/",
    "src/number.rs",
    "src/os.rs",
    "src/zlib.rs",
    "tools/ecc/src/object/libbpf.rs",
];

/// The C libraries below us and the only places that name them.
const FOREIGN: [(&str, &[&str]); 2] =
    [("libbpf_sys", &["src/bpf/sys/", "tools/ecc/src/object/libbpf.rs"]), ("wamr_sys", &["src/wasm/sys/"])];

/// Most lines between the braces of an `extern "C"` function in src/capi.
const MAX_C_FUNCTION_LINES: usize = 10;

/// What must not be committed. Split, so that this file does not contain it.
const FORBIDDEN: [(&str, &str); 13] = [
    ("TO", "DO"),
    ("FIX", "ME"),
    ("X", "XX "),
    ("todo", "!("),
    ("unimplemented", "!("),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("/wo", "rk/"),
    ("crates", ".io"),
    ("static.rust-lang", ".org"),
    ("pypi", ".org"),
    ("npmjs", ".org"),
    ("deb.debian", ".org"),
];

// ---- the rules ------------------------------------------------------------------------------------------------

/// A file imports only what its layer may import.
fn import_problems(path: &str, source: &str) -> Vec<String> {
    let Some(layer) = layer_of(path) else { return Vec::new() };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{path}: {layer} is not a part that the architecture knows")];
    };
    let forbidden = |name: &str| name != layer && !allowed.contains(&name);
    imports(path, &tokens(source))
        .into_iter()
        .filter(|(_, name)| forbidden(name))
        .map(|(line, name)| format!("{path}:{line}: {layer} must not import {name}"))
        .collect()
}

/// A pure layer does not touch the system.
fn purity_problems(path: &str, source: &str) -> Vec<String> {
    let layer = layer_of(path).unwrap_or_default();
    if !PURE_LAYERS.contains(&layer.as_str()) {
        return Vec::new();
    }
    let code: String = tokens(source).iter().map(|token| token.text.as_str()).collect();
    let found = IMPURE.into_iter().filter(|name| code.contains(name));
    found.map(|name| format!("{path}: {layer} is pure and must not use {name}")).collect()
}

/// `unsafe` stands only where it is allowed.
fn unsafe_problems(path: &str, source: &str) -> Vec<String> {
    word_problems(path, source, "unsafe", &UNSAFE_PLACES)
}

/// libbpf and WAMR are named only where they are wrapped.
fn foreign_problems(path: &str, source: &str) -> Vec<String> {
    FOREIGN.iter().flat_map(|(name, places)| word_problems(path, source, name, places)).collect()
}

/// A C function in src/capi converts its arguments and calls; what it does lies elsewhere.
fn length_problems(path: &str, source: &str) -> Vec<String> {
    if !path.starts_with("src/capi/") {
        return Vec::new();
    }
    let long = c_functions(&tokens(source)).into_iter().filter(|(_, lines)| *lines > MAX_C_FUNCTION_LINES);
    long.map(|(name, lines)| format!("{path}: {name} has {lines} lines, at most {MAX_C_FUNCTION_LINES}"))
        .collect()
}

/// No unfinished work, no path of one machine, no host of a registry.
fn text_problems(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in FORBIDDEN.iter().map(|(a, b)| format!("{a}{b}")) {
            if line.contains(&word) {
                problems.push(format!("{path}:{}: must not contain {word}", number + 1));
            }
        }
    }
    problems
}

// ---- reading Rust ---------------------------------------------------------------------------------------------

/// One identifier, literal, punctuation character or bracket. Comments are not tokens.
struct Token {
    text: String,
    line: usize,
}

fn tokens(source: &str) -> Vec<Token> {
    let mut flat = Vec::new();
    flatten(source.parse().expect("a committed file is valid Rust"), &mut flat);
    flat
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

fn word_problems(path: &str, source: &str, word: &str, places: &[&str]) -> Vec<String> {
    if places.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    let found = tokens(source).into_iter().filter(|token| token.text == word);
    found.map(|token| format!("{path}:{}: {word} must not stand here", token.line)).collect()
}

/// The part of src/ that `path` belongs to.
fn layer_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix("src/")?;
    let layer = inside.split('/').next()?.trim_end_matches(".rs");
    (layer != "lib").then(|| layer.to_string())
}

/// The parts that a file names: `crate::NAME`, `crate::{NAME, ..}`, and `super::` where that is the crate's root.
fn imports(path: &str, tokens: &[Token]) -> Vec<(usize, String)> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let depth = module_depth(path);
    let mut found = Vec::new();
    for start in 0..tokens.len() {
        let mut next = start;
        if text(next) == "crate" && is_path_separator(tokens, next + 1) {
            next += 3;
        } else if text(next) == "super" && !is_path_separator(tokens, start.wrapping_sub(2)) {
            let mut supers = 0;
            while text(next) == "super" && is_path_separator(tokens, next + 1) {
                supers += 1;
                next += 3;
            }
            if supers < depth {
                continue;
            }
        } else {
            continue;
        }
        let names = if text(next) == "{" { group_heads(&tokens[next..]) } else { vec![&tokens[next]] };
        let is_layer = |token: &&Token| LAYERS.iter().any(|(name, _)| *name == token.text);
        let of_crate = text(start) == "crate";
        let is_macro = text(next + 1) == "!";
        let counted = names.into_iter().filter(|token| is_layer(token) || (of_crate && !is_macro));
        found.extend(counted.map(|token| (token.line, token.text.clone())));
    }
    found
}

fn is_path_separator(tokens: &[Token], index: usize) -> bool {
    let colon = |index: usize| tokens.get(index).is_some_and(|token| token.text == ":");
    colon(index) && colon(index.wrapping_add(1))
}

/// How many modules below the crate's root a file is.
fn module_depth(path: &str) -> usize {
    let module = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    module.split('/').count()
}

/// The first token of each item of the brace group that `tokens` starts with.
fn group_heads(tokens: &[Token]) -> Vec<&Token> {
    let mut heads = Vec::new();
    let mut depth = 0;
    for pair in tokens.windows(2) {
        match pair[0].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(pair[0].text.as_str(), "{" | ",") && pair[1].text != "}" {
            heads.push(&pair[1]);
        }
    }
    heads
}

/// Name and number of body lines of each `extern "C"` function that has a body.
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

/// Lines between the braces of the group that `tokens` starts with.
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

/// Every file below `folder` with one of `endings`, relative to the root.
fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path: PathBuf = entry.expect("an entry").path();
            let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

/// Holds `rule` against `files`; fails with everything it found.
fn check(files: Vec<String>, rule: fn(&str, &str) -> Vec<String>) {
    assert!(!files.is_empty(), "no file to check");
    let problems: Vec<String> = files
        .iter()
        .flat_map(|path| rule(path, &std::fs::read_to_string(root().join(path)).expect("a text file")))
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn rust_files() -> Vec<String> {
    [files("src", &[".rs"]), files("tools", &[".rs"])].concat()
}

// ---- the tests ------------------------------------------------------------------------------------------------

#[test]
fn layers_import_only_what_lies_below_them() {
    check(rust_files(), import_problems);
}

#[test]
fn a_forbidden_import_is_caught_however_it_is_spelt() {
    let caught = |path, source| import_problems(path, source).len();
    assert_eq!(caught("src/types/json.rs", "use crate::error::Error;"), 0);
    assert_eq!(caught("src/types/json.rs", "use crate::types::plan; // crate::vm"), 0);
    assert_eq!(caught("src/types/json.rs", "use crate::vm::Vm;"), 1);
    assert_eq!(caught("src/types/json.rs", "use crate::{error::{Error, Status}, bpf, package};"), 2);
    assert_eq!(caught("src/types/json.rs", "fn f() { crate::bpf::open() }"), 1);
    assert_eq!(caught("src/types/json.rs", "use crate::Vm;"), 1);
    assert_eq!(caught("src/types/mod.rs", "use super::bpf;"), 1);
    assert_eq!(caught("src/types/json.rs", "use super::super::bpf;"), 1);
    assert_eq!(caught("src/types/json.rs", "use super::plan;"), 0);
    assert_eq!(caught("src/vm/mod.rs", "use crate::capi::guard;"), 1);
    assert_eq!(caught("src/capi/mod.rs", "use crate::bpf::Object;"), 1);
    assert_eq!(caught("src/utils.rs", ""), 1);
}

#[test]
fn pure_layers_do_not_touch_the_system() {
    check(rust_files(), purity_problems);
}

#[test]
fn a_system_call_in_a_pure_layer_is_caught() {
    assert_eq!(purity_problems("src/package/json.rs", "fn f() { std::fs::read(\"p\"); }").len(), 1);
    assert_eq!(purity_problems("src/types/ctype.rs", "fn f() { libc::time() }").len(), 1);
    assert_eq!(purity_problems("src/types/ctype.rs", "// std::fs").len(), 0);
    assert_eq!(purity_problems("src/vm/mod.rs", "use std::fs;").len(), 0);
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    check(rust_files(), unsafe_problems);
}

#[test]
fn unsafe_elsewhere_is_caught() {
    assert_eq!(unsafe_problems("src/vm/mod.rs", "fn f() { unsafe { g() } }").len(), 1);
    assert_eq!(unsafe_problems("tools/ecc/src/main.rs", "unsafe impl Send for A {}").len(), 1);
    assert_eq!(unsafe_problems("src/bpf/sys/map.rs", "fn f() { unsafe { g() } }").len(), 0);
    assert_eq!(unsafe_problems("src/vm/mod.rs", "//! unsafe\nfn f() { \"unsafe\" }").len(), 0);
}

#[test]
fn the_crate_denies_unsafe_code() {
    let source = std::fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    assert!(source.contains("#![deny(unsafe_code)]"), "src/lib.rs lacks #![deny(unsafe_code)]");
}

#[test]
fn c_libraries_are_named_only_where_they_are_wrapped() {
    check(rust_files(), foreign_problems);
}

#[test]
fn a_c_library_named_elsewhere_is_caught() {
    assert_eq!(foreign_problems("src/bpf/map.rs", "use libbpf_sys::bpf_map;").len(), 1);
    assert_eq!(foreign_problems("src/vm/mod.rs", "fn f() { wamr_sys::wasm_runtime_init() }").len(), 1);
    assert_eq!(foreign_problems("src/bpf/sys/map.rs", "use libbpf_sys::bpf_map;").len(), 0);
}

#[test]
fn c_functions_are_short() {
    check(rust_files(), length_problems);
}

#[test]
fn a_long_c_function_is_caught() {
    let function =
        |lines: usize| format!("pub extern \"C\" fn f(a: u8) -> i32 {{\n{}}}", "g();\n".repeat(lines));
    assert_eq!(length_problems("src/capi/events.rs", &function(MAX_C_FUNCTION_LINES)).len(), 0);
    assert_eq!(length_problems("src/capi/events.rs", &function(MAX_C_FUNCTION_LINES + 1)).len(), 1);
    assert_eq!(length_problems("src/vm/mod.rs", &function(MAX_C_FUNCTION_LINES + 1)).len(), 0);
}

#[test]
fn nothing_unfinished_and_no_machine_is_committed() {
    let endings = [".rs", ".c", ".h", ".hpp", ".sh", ".toml", ".md", "Makefile", ".ci/run", ".pc.in"];
    check(files("", &endings), text_problems);
}

#[test]
fn a_marker_and_a_machine_path_are_caught() {
    for (first, second) in FORBIDDEN {
        assert_eq!(text_problems("src/lib.rs", &format!("// {first}{second}")).len(), 1, "{first}{second}");
    }
    assert_eq!(text_problems("src/lib.rs", "// done").len(), 0);
}
