//! `--filter`: a condition on the fields of a record, tried on its bytes as the kernel wrote them.
//!
//! ```text
//! any        = all { "||" all }
//! all        = one { "&&" one }
//! one        = "!" one | "(" any ")" | FIELD [ OPERATOR VALUE ]
//! OPERATOR   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~"
//! VALUE      = number | word | "text" | 'text'
//! ```
//!
//! A field alone is true if it is neither zero nor empty. Nesting is bounded; the length is that of an argument.

use std::borrow::Cow;
use std::sync::Arc;

use eunomia::types::{Field, Kind, Type};
use regex_lite::Regex;

use crate::error::{Code, Failure, Result};
use crate::field;

/// Parentheses and negations inside each other.
const MAX_DEPTH: u32 = 64;

/// A condition on the records of one type.
pub struct Filter {
    root: Node,
}

enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Not(Box<Node>),
    Integer(Field, Compare, i128),
    Float(Field, Compare, f64),
    Text(Field, Compare, Vec<u8>),
    Matches(Field, Regex),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Compare::Equal => left == right,
            Compare::Unequal => left != right,
            Compare::Less => left < right,
            Compare::LessOrEqual => left <= right,
            Compare::Greater => left > right,
            Compare::GreaterOrEqual => left >= right,
        }
    }
}

impl Filter {
    /// Reads a condition on records of type `ty`.
    pub fn parse(text: &str, ty: &Arc<Type>) -> Result<Filter> {
        let fail = |why: String| Failure::new(Code::Usage, format_args!("--filter: {why}"));
        let tokens = tokens(text).map_err(fail)?;
        let mut parser = Parser { tokens: &tokens, next: 0, ty };
        let root = parser.any(0).map_err(fail)?;
        match parser.peek() {
            None => Ok(Filter { root }),
            Some(token) => Err(fail(format!("{} is not expected here", token.describe()))),
        }
    }

    /// Whether a record is wanted.
    pub fn accepts(&self, record: &[u8]) -> bool {
        self.root.holds(record)
    }
}

impl Node {
    fn holds(&self, record: &[u8]) -> bool {
        match self {
            Node::Any(nodes) => nodes.iter().any(|node| node.holds(record)),
            Node::All(nodes) => nodes.iter().all(|node| node.holds(record)),
            Node::Not(node) => !node.holds(record),
            Node::Integer(field, compare, value) => compare.holds(&field::integer(field, record), value),
            Node::Float(field, compare, value) => compare.holds(&field::float(field, record), value),
            Node::Text(field, compare, value) => compare.holds(field::text(field, record), value),
            Node::Matches(field, regex) => {
                let text: Cow<str> = String::from_utf8_lossy(field::text(field, record));
                regex.is_match(&text)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name or number.
    Word(String),
    /// A text in quotes.
    Text(String),
    Sign(&'static str),
}

impl Token {
    fn describe(&self) -> String {
        match self {
            Token::Word(text) | Token::Text(text) => format!("{text:?}"),
            Token::Sign(sign) => format!("{sign:?}"),
        }
    }
}

/// Longer ones first.
const SIGNS: [&str; 13] = ["==", "!=", "<=", ">=", "=~", "!~", "&&", "||", "<", ">", "!", "(", ")"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            let end = rest[1..].find(first).ok_or_else(|| format!("the text {rest} has no end"))?;
            tokens.push(Token::Text(rest[1..=end].to_owned()));
            rest = rest[end + 2..].trim_start();
            continue;
        }
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = rest[sign.len()..].trim_start();
            continue;
        }
        let is_word = |letter: char| letter.is_alphanumeric() || "_.-+:/*".contains(letter);
        let end = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        if end == 0 {
            let advice = if first == '=' { "; equality is ==" } else { "" };
            return Err(format!("{first:?} is no operator{advice}"));
        }
        tokens.push(Token::Word(rest[..end].to_owned()));
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    ty: &'a Arc<Type>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is_there = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.next += usize::from(is_there);
        is_there
    }

    fn any(&mut self, depth: u32) -> Result<Node, String> {
        let mut nodes = vec![self.all(depth)?];
        while self.take_sign("||") {
            nodes.push(self.all(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn all(&mut self, depth: u32) -> Result<Node, String> {
        let mut nodes = vec![self.one(depth)?];
        while self.take_sign("&&") {
            nodes.push(self.one(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn one(&mut self, depth: u32) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} deep"));
        }
        if self.take_sign("!") {
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_sign("(") {
            let node = self.any(depth + 1)?;
            return if self.take_sign(")") { Ok(node) } else { Err("a \")\" is missing".into()) };
        }
        match self.peek().cloned() {
            Some(Token::Word(name)) => {
                self.next += 1;
                self.comparison(&name)
            }
            Some(token) => Err(format!("a field is wanted, not {}", token.describe())),
            None => Err("a field is wanted at the end".into()),
        }
    }

    fn comparison(&mut self, name: &str) -> Result<Node, String> {
        let field = field::find(self.ty, name).map_err(|e| e.text().to_owned())?;
        let sign = match self.peek() {
            Some(Token::Sign(sign)) if !["&&", "||", ")", "(", "!"].contains(sign) => *sign,
            _ => return truth(field, name),
        };
        self.next += 1;
        let value = match self.peek() {
            Some(Token::Word(text) | Token::Text(text)) => text.clone(),
            _ => return Err(format!("a value is wanted behind {name} {sign}")),
        };
        self.next += 1;
        compare(field, name, sign, &value)
    }
}

/// A field alone.
fn truth(field: Field, name: &str) -> Result<Node, String> {
    match field.ty.kind {
        Kind::Array if field.ty.is_string() => Ok(Node::Text(field, Compare::Unequal, Vec::new())),
        Kind::Float => Ok(Node::Float(field, Compare::Unequal, 0.0)),
        Kind::Array | Kind::Struct | Kind::Union => Err(cannot_compare(&field, name)),
        _ => Ok(Node::Integer(field, Compare::Unequal, 0)),
    }
}

fn cannot_compare(field: &Field, name: &str) -> String {
    let inner = field::names(&field.ty);
    let advice = inner.first().map(|inner| format!("; compare {name}.{inner}")).unwrap_or_default();
    format!("{name} is a {} and cannot be compared{advice}", field.ty.name)
}

fn compare(field: Field, name: &str, sign: &str, value: &str) -> Result<Node, String> {
    let is_text = field.ty.is_string();
    if sign == "=~" || sign == "!~" {
        if !is_text {
            return Err(format!("{name} {sign}: {name} is no text but {}", field.ty.name));
        }
        let regex = Regex::new(value).map_err(|e| format!("{name} {sign} {value:?}: {e}"))?;
        let node = Node::Matches(field, regex);
        return Ok(if sign == "!~" { Node::Not(Box::new(node)) } else { node });
    }
    let compare = match sign {
        "==" => Compare::Equal,
        "!=" => Compare::Unequal,
        "<" => Compare::Less,
        "<=" => Compare::LessOrEqual,
        ">" => Compare::Greater,
        _ => Compare::GreaterOrEqual,
    };
    let bad = || format!("{name} {sign} {value:?}: {name} is {}", field.ty.name);
    match field.ty.kind {
        Kind::Array if is_text => Ok(Node::Text(field, compare, value.as_bytes().to_vec())),
        Kind::Array | Kind::Struct | Kind::Union => Err(cannot_compare(&field, name)),
        Kind::Float => {
            let value = value.parse().map_err(|_| bad())?;
            Ok(Node::Float(field, compare, value))
        }
        _ => {
            let value = integer(&field.ty, value).ok_or_else(bad)?;
            Ok(Node::Integer(field, compare, value))
        }
    }
}

/// An integer in C's notation, `true`, `false`, or the name of an enum's constant.
fn integer(ty: &Type, text: &str) -> Option<i128> {
    let constant =
        (ty.kind == Kind::Enum).then(|| ty.fields.iter().find(|field| field.name == text)).flatten();
    if let Some(constant) = constant {
        return Some(if ty.signed { constant.value.into() } else { (constant.value as u64).into() });
    }
    match text {
        "true" => return Some(1),
        "false" => return Some(0),
        _ => {}
    }
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse::<u64>(),
    };
    let number = i128::from(number.ok()?);
    Some(if is_negative { -number } else { number })
}
