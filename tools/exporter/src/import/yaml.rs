//! Writes values in YAML.

/// A scalar: as it is if that is safe, and else in quotes.
pub fn scalar(text: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
    let is_safe = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text.bytes().all(is_word);
    let lower = text.to_ascii_lowercase();
    let is_keyword = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&&*lower);
    if is_safe && !is_keyword { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A list in one line.
pub fn list(values: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", values.into_iter().collect::<Vec<_>>().join(", "))
}

/// A mapping in one line.
pub fn mapping(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_is_quoted_unless_it_is_a_word() {
        for word in ["abc", "_a", "a.b-c", "key.dev"] {
            assert_eq!(scalar(word), word);
        }
        for (text, quoted) in
            [("", "\"\""), ("1", "\"1\""), ("a b", "\"a b\""), ("No", "\"No\""), ("a\"\n", "\"a\\\"\\n\"")]
        {
            assert_eq!(scalar(text), quoted);
        }
    }

    #[test]
    fn collections_take_one_line() {
        let labels = [("name", scalar("a")), ("keys", list(["1".to_owned(), "2".to_owned()]))];
        assert_eq!(mapping(&labels), "{name: a, keys: [1, 2]}");
    }
}
