//! Reads documentation comments and the annotations in them.
//!
//! A comment belongs to a declaration by clang's rules. It is the nearest comment above, unless another declaration ends
//! between the two, or a comment with `<` that follows on the same line. The debug information gives the positions of
//! declarations; only comments are read from the source.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Commands whose text is never read as JSON, because the version 1.0 is a string and not a number.
pub const TEXT_COMMANDS: [&str; 4] = ["brief", "details", "version", "description"];

/// Source files, each read once.
#[derive(Default)]
pub struct SourceFiles(HashMap<PathBuf, Source>);

impl SourceFiles {
    /// The comments of a file; none if it cannot be read.
    pub fn get(&mut self, file: &Path) -> &Source {
        self.0.entry(file.to_owned()).or_insert_with_key(|file| {
            Source::parse(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default()))
        })
    }
}

/// The comments of a source file.
pub struct Source {
    /// The text with comments, strings and character constants replaced by spaces of the same length.
    code: Vec<u8>,
    comments: Vec<Comment>,
    /// The offset of each line.
    lines: Vec<usize>,
}

/// A documentation comment.
pub struct Comment {
    start: usize,
    end: usize,
    /// Belongs to the declaration before it (`///<`).
    trailing: bool,
    /// Ends with the line (`///`). Consecutive comments of this kind are one comment.
    single: bool,
    /// The line in which it begins, counted from 1. Each line of the text is one line of the source.
    pub line: usize,
    pub text: String,
}

impl Comment {
    /// The line of the source in which the annotation `key` begins.
    pub fn line_of(&self, key: &str) -> usize {
        let is_key = |line: &str| command(line.trim()).is_some_and(|(found, _)| found == key);
        self.line + self.text.lines().position(is_key).unwrap_or(0)
    }
}

impl Source {
    /// Finds the comments of a C source.
    pub fn parse(text: &str) -> Source {
        let mut source = Source { code: text.as_bytes().to_vec(), comments: Vec::new(), lines: vec![0] };
        source.lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        let mut at = 0;
        while at < text.len() {
            let rest = &text.as_bytes()[at..];
            let len = if rest.starts_with(b"//") {
                line_comment_len(rest)
            } else if rest.starts_with(b"/*") {
                text[at + 2..].find("*/").map_or(rest.len(), |len| len + 4)
            } else if matches!(rest[0], b'"' | b'\'') {
                literal_len(rest)
            } else {
                at += 1;
                continue;
            };
            if rest[0] == b'/' {
                source.keep(at, &text[at..at + len]);
            }
            blank(&mut source.code[at..at + len]);
            at += len;
        }
        source
    }

    /// The comment of the declaration of `name` on `line`. If the declaration contains an unnamed type, `body` is the line
    /// in which that begins.
    pub fn comment(&self, name: &str, line: u64, body: Option<u64>) -> Option<&Comment> {
        let at = self.position(name, line)?;
        let start = match body {
            Some(body) => self.position("struct", body).or_else(|| self.position("union", body))?,
            None => at,
        };
        self.above(start).or_else(|| self.after(at))
    }

    fn above(&self, at: usize) -> Option<&Comment> {
        let before = self.comments.partition_point(|comment| comment.end <= at);
        let comment = self.comments[..before].iter().rfind(|comment| !comment.trailing)?;
        let between = &self.code[comment.end..at];
        let ends = |byte: &u8| b";{}#".contains(byte);
        (!between.iter().any(ends)).then_some(comment)
    }

    fn after(&self, at: usize) -> Option<&Comment> {
        let comment = self.comments.get(self.comments.partition_point(|comment| comment.start < at))?;
        let between = &self.code[at..comment.start];
        let ends = |byte: &u8| b"\n{}".contains(byte);
        (comment.trailing && !between.iter().any(ends)).then_some(comment)
    }

    /// The offset of `word` on a line (counted from 1), or the offset of the line if it does not contain the word.
    fn position(&self, word: &str, line: u64) -> Option<usize> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let start = *self.lines.get(index)?;
        let end = self.lines.get(index + 1).copied().unwrap_or(self.code.len());
        let line = &self.code[start..end];
        let is_word =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let found = (0..line.len()).find(|&at| {
            line[at..].starts_with(word.as_bytes())
                && !is_word(at.checked_sub(1).and_then(|before| line.get(before)))
                && !is_word(line.get(at + word.len()))
        });
        Some(start + found.unwrap_or(0))
    }

    /// Stores a comment if it is a documentation comment.
    fn keep(&mut self, start: usize, comment: &str) {
        let line = comment.starts_with("//");
        let Some(text) = comment.get(3..) else { return };
        let mark = comment.as_bytes()[2];
        let doubled = if line { b'/' } else { b'*' };
        // `////` and `/***` draw boxes; `/**/` is empty.
        if !(mark == doubled || mark == b'!') || text.starts_with(doubled as char) || comment == "/**/" {
            return;
        }
        let trailing = text.starts_with('<');
        let text = text.strip_prefix('<').unwrap_or(text);
        let text = if line { text.to_string() } else { without_stars(text) };
        let end = start + comment.len();
        if let Some(last) = self.comments.last_mut() {
            let gap = &self.code[last.end..start];
            let adjacent = gap.iter().all(u8::is_ascii_whitespace)
                && gap.iter().filter(|&&byte| byte == b'\n').count() == 1;
            if adjacent && last.single && line && last.trailing == trailing {
                last.text.push('\n');
                last.text.push_str(&text);
                last.end = end;
                return;
            }
        }
        let number = self.lines.partition_point(|&begin| begin <= start);
        self.comments.push(Comment { start, end, trailing, single: line, line: number, text });
    }
}

fn line_comment_len(rest: &[u8]) -> usize {
    let ends = |at: &usize| rest[*at] == b'\n' && rest[*at - 1] != b'\\';
    (2..rest.len()).find(ends).unwrap_or(rest.len())
}

/// The length of a string or character constant. An unterminated one ends with its line.
fn literal_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 1,
            b'\n' => return at,
            byte if byte == rest[0] => return at + 1,
            _ => {}
        }
        at += 1;
    }
    rest.len()
}

fn blank(code: &mut [u8]) {
    code.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// The lines of a `/** */` comment without the terminator and the leading stars.
fn without_stars(text: &str) -> String {
    let text = text.strip_suffix("*/").unwrap_or(text);
    let lines = text.lines().map(|line| {
        let trimmed = line.trim_start();
        trimmed.strip_prefix('*').unwrap_or(trimmed)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The annotations of a comment: each command with its value (JSON if it is valid, else a string). Text outside of
/// commands becomes the `description`. Kernel-doc's descriptions of parameters and members are ignored.
pub fn annotations(comment: &str) -> Map<String, Value> {
    let mut found = Map::new();
    let mut plain = Vec::new();
    let mut lines: Vec<String> = comment.lines().map(|line| line.trim().to_string()).collect();
    lines.reverse();
    while let Some(line) = lines.pop() {
        if is_kernel_doc(&line) {
            while lines.last().is_some_and(|next| !next.is_empty() && !is_marked(next)) {
                lines.pop();
            }
            continue;
        }
        let Some((command, first)) = command(&line) else {
            plain.extend(Some(line).filter(|line| !line.is_empty()));
            continue;
        };
        let mut text = first.trim().to_string();
        while let Some(next) = lines.last().filter(|next| !next.is_empty() && !is_marked(next)) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(next);
            lines.pop();
        }
        let (value, rest) = value(command, &text);
        lines.extend(rest.lines().rev().map(|line| line.trim().to_string()));
        if value != Value::String(String::new()) {
            found.insert(command.to_string(), value);
        }
    }
    if !plain.is_empty() && !found.contains_key("description") {
        found.insert("description".into(), plain.join(" ").into());
    }
    found
}

/// Whether this line begins a command, or kernel-doc's description of a parameter.
fn is_marked(line: &str) -> bool {
    command(line).is_some() || is_kernel_doc(line)
}

/// Whether a line is `@name: text`, as kernel-doc describes a parameter or member (`@inner.name:`, `@...:`).
fn is_kernel_doc(line: &str) -> bool {
    let Some(text) = line.strip_prefix('@') else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.->()[]".contains(c);
    let rest = text.trim_start_matches(is_name);
    let separator = rest.trim_start();
    rest.len() < text.len() && separator.starts_with(':') && !separator.starts_with("::")
}

/// Splits `@name rest` or `\name rest` into the name and the rest.
fn command(line: &str) -> Option<(&str, &str)> {
    if is_kernel_doc(line) {
        return None;
    }
    let text = line.strip_prefix(['@', '\\'])?;
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The value of a command, and what follows it: another command, or text after JSON.
fn value<'a>(command: &str, text: &'a str) -> (Value, &'a str) {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    if let Some(Ok(value)) = stream.next() {
        let rest = &text[stream.byte_offset()..];
        let ends = rest.trim_start_matches([' ', '\t']);
        let whole = ends.is_empty() || ends.starts_with(['\n', '@']);
        if whole && (value.is_string() || !TEXT_COMMANDS.contains(&command)) {
            return (value, rest.trim());
        }
    }
    let line = text.replace('\n', " ");
    // A line break may be inside a JSON string.
    let json = if TEXT_COMMANDS.contains(&command) { None } else { serde_json::from_str(&line).ok() };
    (json.unwrap_or(Value::String(line)), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(comment: &str) -> Value {
        Value::Object(annotations(comment))
    }

    #[test]
    fn valid_json_is_parsed_and_other_values_are_strings() {
        assert_eq!(parsed(" @cmdarg {\"short\": \"p\"}"), json!({"cmdarg": {"short": "p"}}));
        assert_eq!(parsed("@ifindex 1\n@interface eth0"), json!({"ifindex": 1, "interface": "eth0"}));
        assert_eq!(
            parsed("@perf_event {\"type\": 1,\n  \"freq\": 99}"),
            json!({"perf_event": {"type": 1, "freq": 99}})
        );
        assert_eq!(parsed("@cgroup /sys/fs/cgroup/a b"), json!({"cgroup": "/sys/fs/cgroup/a b"}));
    }

    #[test]
    fn json_may_continue_on_the_next_line_inside_a_string() {
        assert_eq!(parsed("@cmdarg {\"help\": \"a\n   b\"}"), json!({"cmdarg": {"help": "a b"}}));
    }

    #[test]
    fn text_outside_of_commands_becomes_the_description() {
        assert_eq!(parsed(" the least\n duration "), json!({"description": "the least duration"}));
        assert_eq!(parsed("@cmdarg {}\nthe least"), json!({"cmdarg": {}, "description": "the least"}));
        assert_eq!(parsed("one\n@description \"two\""), json!({"description": "two"}));
        assert_eq!(parsed("@description two\nlines"), json!({"description": "two lines"}));
    }

    #[test]
    fn descriptions_and_versions_stay_strings() {
        assert_eq!(parsed("@version 1.0\n@brief 5"), json!({"version": "1.0", "brief": "5"}));
        assert_eq!(parsed("@description 5 minutes"), json!({"description": "5 minutes"}));
    }

    #[test]
    fn a_command_without_text_is_ignored() {
        assert_eq!(parsed("@ifindex\n\ntext"), json!({"description": "text"}));
        assert_eq!(parsed("mail a@b.c"), json!({"description": "mail a@b.c"}));
    }

    #[test]
    fn kernel_doc_is_not_read_as_annotations() {
        let comment = "on_open - count opens\n@path: the file that is\n  opened\n@pid : who\n@args.fd: a part\n@...: more\n\
                       @cgroup /sys/fs/cgroup\n@func: as\n@cmdarg: {}\n\nReturn: nothing";
        let expected =
            json!({"description": "on_open - count opens Return: nothing", "cgroup": "/sys/fs/cgroup"});
        assert_eq!(parsed(comment), expected);
        assert_eq!(parsed("@sample {\"a\": 1}\n@interval: text"), json!({"sample": {"a": 1}}));
        assert_eq!(parsed("@path ::1"), json!({"path": "::1"}));
    }

    #[test]
    fn a_command_may_follow_json_on_the_same_line() {
        assert_eq!(
            parsed("@tchook {\"ifindex\":1} @tcopts {\"handle\":1}"),
            json!({
                "tchook": {"ifindex": 1}, "tcopts": {"handle": 1}
            })
        );
    }

    fn comment(source: &str, name: &str, line: u64, body: Option<u64>) -> Option<String> {
        Source::parse(source).comment(name, line, body).map(|comment| comment.text.trim().to_string())
    }

    #[test]
    fn the_nearest_documentation_comment_above_is_used() {
        assert_eq!(
            comment("/// far\n\n/// a\n/// b\nint x;", "x", 5, None).as_deref(),
            Some(" a\n b".trim())
        );
        assert_eq!(comment("/** a\n * b\n */\nSEC(\";\")\nint x;", "x", 5, None).as_deref(), Some("a\n b"));
        assert_eq!(comment("/// a\nint y; int x;", "x", 2, None), None);
        assert_eq!(comment("/// a\n#define Y\nint x;", "x", 3, None), None);
        assert_eq!(comment("/// a\nint f() {}\nint x;", "x", 3, None), None);
    }

    #[test]
    fn the_line_of_an_annotation_is_found() {
        let source = Source::parse("int y;\n\n/** text\n *  @cmdarg {\n *  }\n */\nint x;");
        let comment = source.comment("x", 7, None).unwrap();
        assert_eq!((comment.line, comment.line_of("cmdarg"), comment.line_of("none")), (3, 4, 3));
    }

    #[test]
    fn ordinary_comments_are_ignored() {
        for text in ["// a\nint x;", "/* a */\nint x;", "//// a\nint x;", "/*** a */\nint x;", "/**/\nint x;"]
        {
            assert_eq!(comment(text, "x", text.lines().count() as u64, None), None, "{text}");
        }
        let strings = "char *s = \"/// no\"; char c = '\"'; // \"\n/// yes\nint x;";
        assert_eq!(comment(strings, "x", 3, None).as_deref(), Some("yes"));
    }

    #[test]
    fn a_trailing_comment_belongs_to_the_declaration_before_it() {
        assert_eq!(comment("int x; ///< a\nint y;", "x", 1, None).as_deref(), Some("a"));
        assert_eq!(comment("int x; ///< a\nint y;", "y", 2, None), None);
        assert_eq!(comment("int x; /**< a */ int y;", "y", 1, None), None);
    }

    #[test]
    fn the_comment_above_an_unnamed_struct_belongs_to_the_map() {
        let map = "/// a\nstruct {\n  int b;\n} x SEC(\".maps\");";
        assert_eq!(comment(map, "x", 4, Some(2)).as_deref(), Some("a"));
        assert_eq!(comment(map, "x", 4, None), None);
    }
}
