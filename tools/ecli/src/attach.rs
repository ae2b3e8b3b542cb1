//! `--attach PROG=TARGET`: attaches a program to another target than the package specifies.

use eunomia::Vm;
use serde_json::{Deserializer, Map, Value};

use crate::error::{Code, Failure, Result};

/// Keys whose values are strings, even if they look like numbers.
const TEXT_KEYS: [&str; 5] = ["attach", "path", "func", "cgroup", "build_id"];

/// Applies the options in order. Several options for one program are several targets.
pub fn apply(vm: &Vm, options: &[String]) -> Result<()> {
    let mut targets: Vec<(&str, Vec<Value>)> = Vec::new();
    for option in options {
        let error = |why: &str| Failure::new(Code::Usage, format_args!("--attach {option}: {why}"));
        let (prog, text) = option
            .split_once('=')
            .ok_or_else(|| error("expected PROG=KEY:VALUE[,KEY:VALUE...] or PROG={...}"))?;
        let target = target(text).map_err(|why| error(&why))?;
        match targets.iter_mut().find(|(name, _)| *name == prog) {
            Some((_, list)) => list.push(target),
            None => targets.push((prog, vec![target])),
        }
    }
    for (prog, list) in targets {
        if vm.prog_find(prog).is_ok_and(|prog| !prog.autoload) {
            return Err(Failure::new(Code::Usage, format_args!("--attach: program {prog:?} is not loaded")));
        }
        let json = Value::Array(list).to_string();
        let set = vm.prog_set_target_json(prog, &json);
        set.map_err(|e| Failure::from(e).with_code(Code::Usage).at("--attach"))?;
    }
    Ok(())
}

/// Parses a target: JSON, or pairs of keys and values. The library checks the keys.
fn target(text: &str) -> Result<Value, String> {
    if text.starts_with('{') {
        return serde_json::from_str(text).map_err(|e| e.to_string());
    }
    let mut object = Map::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (key, after) = text.split_once(':').ok_or_else(|| not_a_pair(text))?;
        if key.contains(',') {
            return Err(not_a_pair(key.split(',').next().unwrap_or(key)));
        }
        let (value, remaining) = value(key, after)?;
        if object.insert(key.to_owned(), value).is_some() {
            return Err(format!("{key:?} is given twice"));
        }
        rest = remaining;
    }
    Ok(object.into())
}

fn not_a_pair(text: &str) -> String {
    format!("{text:?} is not KEY:VALUE; put a value that contains a comma in double quotes")
}

/// Parses the value at the start of a text and returns it with the text after its comma. A value in double quotes is a JSON
/// string; any other ends at the first comma outside of brackets.
fn value<'a>(key: &str, text: &'a str) -> Result<(Value, Option<&'a str>), String> {
    if text.starts_with('"') {
        let mut stream = Deserializer::from_str(text).into_iter::<String>();
        let value = stream.next().unwrap_or(Ok(String::new())).map_err(|e| format!("{key}: {e}"))?;
        let after = &text[stream.byte_offset()..];
        return match after.strip_prefix(',') {
            None if !after.is_empty() => Err(format!("{key}: unexpected {after:?} after the closing quote")),
            rest => Ok((value.into(), rest)),
        };
    }
    let end = end_of_value(text)
        .ok_or_else(|| format!("{key}: unbalanced brackets in {text:?}; put the value in double quotes"))?;
    let value = &text[..end];
    let number = value.parse::<i64>().ok().filter(|_| !TEXT_KEYS.contains(&key));
    Ok((number.map_or_else(|| value.into(), Value::from), text.get(end + 1..)))
}

/// The index of the first comma outside of brackets, or of the end. Returns `None` if the brackets are unbalanced.
fn end_of_value(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    for (at, letter) in text.char_indices() {
        match letter {
            ',' if open.is_empty() => return Some(at),
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(letter) => return None,
            _ => {}
        }
    }
    open.is_empty().then_some(text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::target;

    #[test]
    fn a_comma_in_brackets_or_quotes_is_part_of_the_value() {
        for (text, expected) in [
            ("path:/bin/x,func:main,pid:-1", json!({"path": "/bin/x", "func": "main", "pid": -1})),
            (
                "func:main.f[go.shape.int,string],pid:3",
                json!({"func": "main.f[go.shape.int,string]", "pid": 3}),
            ),
            ("func:main.(*T[a,b]).m,path:x", json!({"func": "main.(*T[a,b]).m", "path": "x"})),
            ("func:f[struct { a, b int }]", json!({"func": "f[struct { a, b int }]"})),
            (r#"path:"/tmp/a,b \"[x",func:f"#, json!({"path": "/tmp/a,b \"[x", "func": "f"})),
            ("path:/a:b", json!({"path": "/a:b"})),
            ("func:", json!({"func": ""})),
            ("build_id:0123,offset:0x10", json!({"build_id": "0123", "offset": "0x10"})),
            (r#"{"func":"a,b"}"#, json!({"func": "a,b"})),
        ] {
            assert_eq!(target(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn invalid_pairs_are_refused() {
        for (text, why) in [
            ("", "\"\" is not KEY:VALUE"),
            ("func:f,", "\"\" is not KEY:VALUE"),
            ("path:/tmp/a,b", "\"b\" is not KEY:VALUE"),
            ("path:/tmp/a,b,func:f", "\"b\" is not KEY:VALUE"),
            ("path:/tmp/we[ird,func:f", "brackets"),
            ("path:a),func:f", "brackets"),
            (r#"path:"a"b,func:f"#, "after the closing quote"),
            (r#"path:"a"#, "path: EOF"),
            ("func:f,func:g", "\"func\" is given twice"),
        ] {
            let refused = target(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
