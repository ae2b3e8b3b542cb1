//! Splits strings with several command-line arguments, as a shell does.

use crate::error::Result;

/// Splits `text`, the value of `option`, at blanks that are not quoted.
pub fn split(option: &str, text: &str) -> Result<Vec<String>> {
    shlex::split(text).ok_or_else(|| format!("{option} {text:?}: unterminated quote").into())
}

/// Splits and joins the values of an option that may be repeated.
pub fn split_all(option: &str, texts: &[String]) -> Result<Vec<String>> {
    Ok(texts.iter().map(|text| split(option, text)).collect::<Result<Vec<_>>>()?.concat())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_and_backslashes_protect_blanks() {
        let flags = split("-a", r#" -DA=1  '-DB="b c"' -I"my dir" -DC=\" "" -I/a\ b "#).unwrap();
        assert_eq!(flags, ["-DA=1", "-DB=\"b c\"", "-Imy dir", "-DC=\"", "", "-I/a b"]);
        assert!(split("-a", "-D'A").is_err());
    }
}
