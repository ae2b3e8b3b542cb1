//! Flags for clang that the user gives in one string.

use crate::error::Result;

/// Splits as a shell does: at blanks that are not quoted.
pub fn split(option: &str, text: &str) -> Result<Vec<String>> {
    let mut flags = Vec::new();
    let (mut flag, mut quote): (Option<String>, Option<char>) = (None, None);
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match (next, quote) {
            ('\\', None | Some('"')) => flag.get_or_insert_default().extend(rest.next()),
            (_, Some(open)) if next == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(next);
                flag.get_or_insert_default();
            }
            (_, None) if next.is_whitespace() => flags.extend(flag.take()),
            _ => flag.get_or_insert_default().push(next),
        }
    }
    if quote.is_some() {
        return Err(format!("{option} {text:?}: a quote is not closed").into());
    }
    flags.extend(flag);
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_keep_blanks_together() {
        let flags = split("-a", r#" -DA=1  '-DB="b c"' -I"my dir" -DC=\" "" "#).unwrap();
        assert_eq!(flags, ["-DA=1", "-DB=\"b c\"", "-Imy dir", "-DC=\"", ""]);
        assert!(split("-a", "-D'A").is_err());
    }
}
