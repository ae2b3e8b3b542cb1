//! Text that must not be committed: phrases that are never right in this project, in prose or names (the worst of the glossary
//! in CONTRIBUTING.md, "Language"), marks of unfinished work, and names of machines and registries.
//! `make lint` runs this test.

use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Each phrase, and what to write in its place.
const PHRASES: [(&str, &str); 39] = [
    ("told of", "reports"),
    ("lets go of", "detaches, releases, frees"),
    ("let go of", "detached, released, freed"),
    ("letting go of", "detaching, releasing, freeing"),
    ("for people", "human-readable"),
    ("stands behind", "follows, is after"),
    ("stand behind", "follow, are after"),
    ("lies behind", "follows, is after"),
    ("lies beside", "is next to"),
    ("what stands", "name the thing"),
    ("kernel at hand", "running kernel"),
    ("passed over", "skipped"),
    ("hands out", "returns, provides"),
    ("handed out", "returned, provided"),
    ("gives out", "returns, prints"),
    ("given out", "returned, allocated"),
    ("from first to last", "throughout, while it runs"),
    ("first to last", "throughout, in order"),
    ("stands in for", "replaces, is a fallback for"),
    ("stand in for", "replace, are a fallback for"),
    ("nul behind", "NUL-terminated"),
    ("counts first", "takes precedence"),
    ("ledger", "counters, statistics"),
    ("way of the data", "data flow"),
    ("has no end", "unterminated"),
    ("for want of", "because there is no"),
    ("is no number", "expected a number, found"),
    ("is no string", "expected a string, found"),
    ("is no object", "is not an object"),
    ("is no array", "is not an array"),
    ("is no json", "invalid JSON"),
    ("is no type", "is not a type"),
    ("is no package", "is not a package"),
    ("is no program", "is not a program"),
    ("is no map", "is not a map"),
    ("is no struct", "is not a struct"),
    ("is no file", "is not a file, not found"),
    ("is no name", "is not a name"),
    ("is no list", "is not a list"),
];

/// Files that quote such phrases, and texts of others.
const EXEMPT: [&str; 6] = [
    "CONTRIBUTING.md",
    "NOTICE",
    "tests/language.rs",
    "Cargo.lock",
    "tests/fuzz/seeds/",
    "tests/data/abi/previous/",
];

/// What must not be committed: marks of unfinished work, paths of one machine, and hosts of package registries. A
/// build gets its packages from wherever cargo, pip, npm and apt of the machine are configured to look, often a mirror
/// without access to the Internet; a file that names a host would bypass that. The words are split, so that this file
/// does not contain them.
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

/// A word in lower case and its line; an empty one where a phrase cannot continue.
type Word = (String, usize);

/// The words of a text. Names are several words, and markers of comments none, so that a phrase is found across lines.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for token in line.split([' ', '\t', '_', '|', '(', '"', '`']) {
            if matches!(token, "//" | "///" | "//!" | "#" | "*" | "/*" | "") {
                continue;
            }
            let word = token.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            words.push((word, number + 1));
            if token.ends_with(['.', ';', ':', '!', '?', ')']) {
                words.push((String::new(), number + 1));
            }
        }
    }
    words
}

/// The phrases in a text.
fn problems(path: &str, text: &str) -> Vec<String> {
    let words = words(text);
    let mut found = Vec::new();
    for (index, (first, line)) in words.iter().enumerate() {
        // "There is no program" is right.
        if first == "is" && index > 0 && words[index - 1].0 == "there" {
            continue;
        }
        let follows = |phrase: &str| {
            phrase
                .split(' ')
                .enumerate()
                .all(|(at, word)| words.get(index + at).is_some_and(|found| found.0 == word))
        };
        let is_first = |phrase: &str| phrase.split(' ').next() == Some(first.as_str());
        for (phrase, better) in PHRASES.iter().filter(|(phrase, _)| is_first(phrase) && follows(phrase)) {
            found.push(format!("{path}:{line}: \"{phrase}\": write \"{better}\""));
        }
    }
    found
}

/// A text contains nothing of [`FORBIDDEN`].
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

/// The files of the repository.
fn tracked() -> Vec<String> {
    let output = Command::new("git").args(["ls-files"]).current_dir(ROOT).output().expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The files that the phrases are searched in.
fn files() -> Vec<String> {
    let is_exempt = |path: &String| EXEMPT.iter().any(|exempt| path.starts_with(exempt));
    tracked().into_iter().filter(|path| !is_exempt(path)).collect()
}

/// Returns the text of a file; empty if it is not text.
fn read(path: &String) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_default()
}

#[test]
fn no_file_contains_a_phrase_of_the_list() {
    let files = files();
    assert!(files.len() > 400, "only {} files found", files.len());
    let problems: Vec<String> = files.iter().flat_map(|path| problems(path, &read(path))).collect();
    assert!(
        problems.is_empty(),
        "{} phrases (see CONTRIBUTING.md, \"Language\"):\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn a_phrase_is_found_in_prose_names_and_across_lines() {
    for (phrase, _) in PHRASES {
        assert!(!problems("a.rs", &format!("/// So it {phrase} here.\n")).is_empty(), "{phrase}");
        let across = phrase.replacen(' ', "\n    /// ", 1);
        assert!(!problems("a.rs", &format!("/// So it {across} here.\n")).is_empty(), "{phrase}");
        assert!(
            !problems("a.rs", &format!("fn it_{}() {{}}", phrase.replace(' ', "_"))).is_empty(),
            "{phrase}"
        );
    }
    assert_eq!(
        problems("a.rs", "Lets go of it.\n\n`vm` lets\n// go of"),
        [
            "a.rs:1: \"lets go of\": write \"detaches, releases, frees\"",
            "a.rs:3: \"lets go of\": write \"detaches, releases, frees\"",
        ]
    );
    assert_eq!(
        problems("a.rs", "Let go. Of what stood, there is no map: a hand out of it, for these people"),
        Vec::<String>::new()
    );
}

#[test]
fn no_forbidden_word_is_committed() {
    let endings = [".rs", ".c", ".h", ".hpp", ".sh", ".toml", ".md", "Makefile", ".ci/run", ".pc.in"];
    let paths: Vec<String> =
        tracked().into_iter().filter(|path| endings.iter().any(|ending| path.ends_with(ending))).collect();
    assert!(paths.len() > 100, "only {} files to check", paths.len());
    let problems: Vec<String> = paths.iter().flat_map(|path| text_problems(path, &read(path))).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_forbidden_word_is_found() {
    for (first, second) in FORBIDDEN {
        assert_eq!(text_problems("src/lib.rs", &format!("// {first}{second}")).len(), 1, "{first}{second}");
    }
    assert_eq!(text_problems("src/lib.rs", "// done").len(), 0);
}
