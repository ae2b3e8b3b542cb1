//! Parses a filter into a condition.

use std::sync::Arc;

use eunomia::types::{Field, Kind, Type};
use regex_lite::Regex;

use super::condition::{Compare, Condition, Shown};
use super::value::{self, Value};
use crate::field;

/// Nesting of parentheses and negations.
const MAX_DEPTH: u32 = 64;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name or number.
    Word(String),
    /// A string in quotes.
    String(String),
    Operator(&'static str),
}

impl Token {
    fn describe(&self) -> String {
        match self {
            Token::Word(text) | Token::String(text) => format!("{text:?}"),
            Token::Operator(sign) => format!("{sign:?}"),
        }
    }
}

/// All operators, longer ones first.
const OPERATORS: [&str; 13] = ["==", "!=", "<=", ">=", "=~", "!~", "&&", "||", "<", ">", "!", "(", ")"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            let (string, after) = string(rest).ok_or_else(|| format!("unterminated string {rest}"))?;
            tokens.push(Token::String(string));
            rest = after.trim_start();
            continue;
        }
        if let Some(sign) = OPERATORS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Operator(sign));
            rest = rest[sign.len()..].trim_start();
            continue;
        }
        let is_word = |letter: char| letter.is_alphanumeric() || "_.-+:/*".contains(letter);
        let end = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        if end == 0 {
            let hint = if first == '=' { "; use == to compare" } else { "" };
            return Err(format!("unknown operator {first:?}{hint}"));
        }
        tokens.push(Token::Word(rest[..end].to_owned()));
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

/// Reads the string at the start of a text and returns it with the rest. A backslash escapes a quote or a backslash;
/// before any other character it is a literal backslash, because regular expressions need it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut string = String::new();
    let mut letters = text.char_indices().peekable();
    let (_, quote) = letters.next()?;
    while let Some((index, letter)) = letters.next() {
        match (letter, letters.peek()) {
            (letter, _) if letter == quote => return Some((string, &text[index + 1..])),
            ('\\', Some((_, escaped @ ('"' | '\'' | '\\')))) => {
                string.push(*escaped);
                letters.next();
            }
            _ => string.push(letter),
        }
    }
    None
}

/// Parses the tokens of a filter for records of type `ty`.
pub struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    ty: &'a Arc<Type>,
    /// The other types of records.
    others: &'a [Arc<Type>],
    /// Fields in the filter that only other types have.
    pub lacking: Vec<String>,
}

impl<'a> Parser<'a> {
    /// A parser of `text`.
    pub fn new(text: &str, ty: &'a Arc<Type>, others: &'a [Arc<Type>]) -> Result<Parser<'a>, String> {
        Ok(Parser { tokens: tokens(text)?, next: 0, ty, others, lacking: Vec::new() })
    }

    /// Parses the whole filter.
    pub fn filter(&mut self) -> Result<Condition, String> {
        let condition = self.any(0)?;
        match self.peek() {
            None => Ok(condition),
            Some(token) => Err(format!("unexpected {}", token.describe())),
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take_operator(&mut self, operator: &str) -> bool {
        let is_there = matches!(self.peek(), Some(Token::Operator(next)) if *next == operator);
        self.next += usize::from(is_there);
        is_there
    }

    fn any(&mut self, depth: u32) -> Result<Condition, String> {
        let mut nodes = vec![self.all(depth)?];
        while self.take_operator("||") {
            nodes.push(self.all(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Condition::Any(nodes) })
    }

    fn all(&mut self, depth: u32) -> Result<Condition, String> {
        let mut nodes = vec![self.one(depth)?];
        while self.take_operator("&&") {
            nodes.push(self.one(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Condition::All(nodes) })
    }

    fn one(&mut self, depth: u32) -> Result<Condition, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} deep"));
        }
        if self.take_operator("!") {
            return Ok(Condition::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_operator("(") {
            let condition = self.any(depth + 1)?;
            return if self.take_operator(")") { Ok(condition) } else { Err("missing \")\"".into()) };
        }
        match self.peek().cloned() {
            Some(Token::Word(name)) => {
                self.next += 1;
                self.comparison(&name)
            }
            Some(token) => Err(format!("expected a field name, found {}", token.describe())),
            None => Err("expected a field name at the end".into()),
        }
    }

    fn comparison(&mut self, name: &str) -> Result<Condition, String> {
        let (ty, is_here) = self.type_with(name)?;
        let field = field::find(ty, name).map_err(|e| e.text().to_owned())?;
        let condition = match self.peek().cloned() {
            Some(Token::Operator(sign)) if !["&&", "||", ")", "(", "!"].contains(&sign) => {
                self.next += 1;
                let value = match self.peek().cloned() {
                    Some(Token::Word(text) | Token::String(text)) => text,
                    _ => return Err(format!("expected a value after {name} {sign}")),
                };
                self.next += 1;
                compare(ty, field, name, sign, &value)?
            }
            _ => is_set(field, name)?,
        };
        Ok(if is_here { condition } else { Condition::Never })
    }

    /// The type that has the field, and whether it is the type of the filter.
    fn type_with(&mut self, name: &str) -> Result<(&'a Arc<Type>, bool), String> {
        let Err(missing) = field::find(self.ty, name) else { return Ok((self.ty, true)) };
        if let Some(other) = self.others.iter().find(|other| field::find(other, name).is_ok()) {
            if !self.lacking.iter().any(|known| known == name) {
                self.lacking.push(name.to_owned());
            }
            return Ok((other, false));
        }
        if self.others.is_empty() {
            return Err(missing.text().to_owned());
        }
        let known = |ty: &Arc<Type>| format!("{}: {}", ty.name, field::names(ty).join(", "));
        let known: Vec<String> = std::iter::once(self.ty).chain(self.others).map(known).collect();
        Err(format!("field {name:?}: no such field in any record; there are: {}", known.join("; ")))
    }
}

/// The condition that a field is neither zero nor empty.
fn is_set(field: Field, name: &str) -> Result<Condition, String> {
    match field.ty.kind {
        Kind::Array if field.ty.is_string() => Ok(Condition::Text(field, Compare::Unequal, Vec::new())),
        Kind::Float => Ok(Condition::Float(field, Compare::Unequal, 0.0)),
        Kind::Array | Kind::Struct | Kind::Union if value::is_bytes(&field.ty) => Ok(Condition::IsSet(field)),
        Kind::Array | Kind::Struct | Kind::Union => Err(cannot_compare(&field, name)),
        _ => Ok(Condition::Integer(field, Compare::Unequal, 0)),
    }
}

fn cannot_compare(field: &Field, name: &str) -> String {
    let inner = field::names(&field.ty);
    let hint = inner.first().map(|inner| format!("; compare {name}.{inner} instead")).unwrap_or_default();
    format!("{name} is a {} and cannot be compared{hint}", field.ty.name)
}

fn compare(ty: &Arc<Type>, field: Field, name: &str, sign: &str, text: &str) -> Result<Condition, String> {
    if sign == "=~" || sign == "!~" {
        if !field.ty.is_string() && field.ty.format.is_none() && field.ty.kind != Kind::Enum {
            return Err(format!("{name} {sign}: {name} is {}, but {sign} needs a string", field.ty.name));
        }
        let regex = Regex::new(text).map_err(|e| format!("{name} {sign} {text:?}: {e}"))?;
        let condition = Condition::Matches(Shown::new(ty, name)?, regex);
        return Ok(if sign == "!~" { Condition::Not(Box::new(condition)) } else { condition });
    }
    let compare = Compare::of_operator(sign);
    let value = value::read(&field.ty, text);
    let value =
        value.ok_or_else(|| format!("{name} {sign} {text:?}: expected {}", value::expected(&field.ty)));
    Ok(match value {
        Err(_) if !value::is_comparable(&field.ty) => return Err(cannot_compare(&field, name)),
        Err(why) => return Err(why),
        Ok(Value::Integer(value)) => Condition::Integer(value::unsigned(field), compare, value),
        Ok(Value::Float(value)) => Condition::Float(field, compare, value),
        Ok(Value::Text(value)) => Condition::Text(field, compare, value),
        Ok(Value::Bytes(value)) => Condition::Bytes(field, compare, value),
        Ok(Value::Network(..)) if compare.is_ordering() => {
            return Err(format!("{name} {sign} {text:?}: compare a network with == or !="));
        }
        Ok(Value::Network(start, bits)) => match compare {
            Compare::Equal => Condition::Network(field, start, bits),
            _ => Condition::Not(Box::new(Condition::Network(field, start, bits))),
        },
        Ok(Value::Shown(value)) => Condition::Shown(Shown::new(ty, name)?, compare, value),
        Ok(Value::Duration(value)) if compare.is_ordering() => {
            Condition::Integer(field, compare, value.into())
        }
        Ok(Value::Duration(value)) => {
            let (shown, mut record) = (Shown::new(ty, name)?, vec![0; ty.size]);
            let start = (field.bit_offset / 8) as usize;
            if let Some(place) = record.get_mut(start..start + 8) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
            let text = shown.of(&record, <[u8]>::to_vec);
            Condition::Shown(shown, compare, text)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn a_backslash_escapes_quotes_and_backslashes_only() {
        for (text, expected, rest) in [
            (r#""a\"b" && c"#, r#"a"b"#, " && c"),
            (r"'a\'b'", "a'b", ""),
            (r#"'a"b'"#, r#"a"b"#, ""),
            (r#""a\\""#, r"a\", ""),
            (r#""^\d+\.$""#, r"^\d+\.$", ""),
        ] {
            assert_eq!(string(text), Some((expected.to_owned(), rest)), "{text}");
        }
        for unterminated in [r#"""#, r#""a\""#, r#"'a""#, r#""a\\\""#] {
            assert_eq!(string(unterminated), None, "{unterminated}");
        }
    }
}
