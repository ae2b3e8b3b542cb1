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
//! A field alone is true if it is neither zero nor empty. Values are written as they are shown, or as the numbers behind
//! that. Nesting is bounded; the length is that of an argument.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::sync::Arc;

use eunomia::types::{Field, Kind, Type};
use regex_lite::Regex;

use crate::error::{Code, Failure, Result};
use crate::field;
use crate::view::Column;

mod value;

use value::Value;

/// Parentheses and negations inside each other.
const MAX_DEPTH: u32 = 64;

/// A condition on the records of one type.
pub struct Filter {
    root: Node,
    /// Fields that it asks for and that this type lacks.
    pub lacking: Vec<String>,
}

enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Not(Box<Node>),
    Integer(Field, Compare, i128),
    Float(Field, Compare, f64),
    Text(Field, Compare, Vec<u8>),
    /// Bytes that stand for themselves: addresses, digits.
    Bytes(Field, Compare, Vec<u8>),
    /// Not all of its bytes are zero.
    IsSet(Field),
    /// So many bits at the start of an address.
    Network(Field, Vec<u8>, u32),
    /// What is shown of a field.
    Shown(Shown, Compare, Vec<u8>),
    Matches(Shown, Regex),
    /// About a field that is not there.
    Never,
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
    fn named(sign: &str) -> Compare {
        match sign {
            "==" => Compare::Equal,
            "!=" => Compare::Unequal,
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            ">" => Compare::Greater,
            _ => Compare::GreaterOrEqual,
        }
    }

    fn is_about_order(self) -> bool {
        !matches!(self, Compare::Equal | Compare::Unequal)
    }

    /// `None`: one of both is no number.
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Compare::Equal => order == Some(Ordering::Equal),
            Compare::Unequal => order != Some(Ordering::Equal),
            Compare::Less => order.is_some_and(Ordering::is_lt),
            Compare::LessOrEqual => order.is_some_and(Ordering::is_le),
            Compare::Greater => order.is_some_and(Ordering::is_gt),
            Compare::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

/// A field as it stands in a table.
struct Shown {
    column: Column,
    /// Its memory is used for each record again.
    text: RefCell<Vec<u8>>,
}

impl Shown {
    fn new(ty: &Arc<Type>, name: &str) -> Result<Shown, String> {
        let mut columns = Column::of(ty, &[name.to_owned()]).map_err(|e| e.text().to_owned())?;
        let column = columns.pop().ok_or("a field without a name")?;
        Ok(Shown { column, text: RefCell::default() })
    }

    fn of<T>(&self, record: &[u8], look: impl FnOnce(&[u8]) -> T) -> T {
        let mut text = self.text.borrow_mut();
        text.clear();
        self.column.text(record, &mut text);
        look(&text)
    }
}

impl Filter {
    /// Reads a condition on records of type `ty`. What it asks for and only one of the `others` has is false for them.
    pub fn parse(text: &str, ty: &Arc<Type>, others: &[Arc<Type>]) -> Result<Filter> {
        let fail = |why: String| Failure::new(Code::Usage, format_args!("--filter: {why}"));
        let tokens = tokens(text).map_err(fail)?;
        let mut parser = Parser { tokens: &tokens, next: 0, ty, others, lacking: Vec::new() };
        let root = parser.any(0).map_err(fail)?;
        match parser.peek() {
            None => Ok(Filter { root, lacking: parser.lacking }),
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
            Node::Integer(field, compare, value) => {
                compare.holds(Some(field::integer(field, record).cmp(value)))
            }
            Node::Float(field, compare, value) => {
                compare.holds(field::float(field, record).partial_cmp(value))
            }
            Node::Text(field, compare, value) => compare.holds(Some(field::text(field, record).cmp(value))),
            Node::Bytes(field, compare, value) => {
                compare.holds(Some(field::bytes(field, record).cmp(value.iter().copied())))
            }
            Node::IsSet(field) => field::bytes(field, record).any(|byte| byte != 0),
            Node::Network(field, start, bits) => is_within(field::bytes(field, record), start, *bits),
            Node::Shown(shown, compare, value) => {
                shown.of(record, |text| compare.holds(Some(text.cmp(value))))
            }
            Node::Matches(shown, regex) => {
                shown.of(record, |text| regex.is_match(&String::from_utf8_lossy(text)))
            }
            Node::Never => false,
        }
    }
}

/// Whether an address begins with so many bits of another.
fn is_within(address: impl Iterator<Item = u8>, start: &[u8], bits: u32) -> bool {
    let differing = address.zip(start).enumerate().find(|(_, (left, right))| left != *right);
    differing.is_none_or(|(at, (left, right))| at as u32 * 8 + (left ^ right).leading_zeros() >= bits)
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
    others: &'a [Arc<Type>],
    lacking: Vec<String>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
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
        let (ty, is_here) = self.place(name)?;
        let field = field::find(ty, name).map_err(|e| e.text().to_owned())?;
        let node = match self.peek() {
            Some(Token::Sign(sign)) if !["&&", "||", ")", "(", "!"].contains(sign) => {
                self.next += 1;
                let value = match self.peek() {
                    Some(Token::Word(text) | Token::Text(text)) => text,
                    _ => return Err(format!("a value is wanted behind {name} {sign}")),
                };
                self.next += 1;
                compare(ty, field, name, sign, value)?
            }
            _ => truth(field, name)?,
        };
        Ok(if is_here { node } else { Node::Never })
    }

    /// The type that has a field, and whether it is the one at hand.
    fn place(&mut self, name: &str) -> Result<(&'a Arc<Type>, bool), String> {
        let Err(lack) = field::find(self.ty, name) else { return Ok((self.ty, true)) };
        if let Some(other) = self.others.iter().find(|other| field::find(other, name).is_ok()) {
            if !self.lacking.iter().any(|known| known == name) {
                self.lacking.push(name.to_owned());
            }
            return Ok((other, false));
        }
        if self.others.is_empty() {
            return Err(lack.text().to_owned());
        }
        let known = |ty: &Arc<Type>| format!("{}: {}", ty.name, field::names(ty).join(", "));
        let known: Vec<String> = std::iter::once(self.ty).chain(self.others).map(known).collect();
        Err(format!("field {name:?}: no record has it; there are: {}", known.join("; ")))
    }
}

/// A field alone.
fn truth(field: Field, name: &str) -> Result<Node, String> {
    match field.ty.kind {
        Kind::Array if field.ty.is_string() => Ok(Node::Text(field, Compare::Unequal, Vec::new())),
        Kind::Float => Ok(Node::Float(field, Compare::Unequal, 0.0)),
        Kind::Array | Kind::Struct | Kind::Union if value::is_bytes(&field.ty) => Ok(Node::IsSet(field)),
        Kind::Array | Kind::Struct | Kind::Union => Err(cannot_compare(&field, name)),
        _ => Ok(Node::Integer(field, Compare::Unequal, 0)),
    }
}

fn cannot_compare(field: &Field, name: &str) -> String {
    let inner = field::names(&field.ty);
    let advice = inner.first().map(|inner| format!("; compare {name}.{inner}")).unwrap_or_default();
    format!("{name} is a {} and cannot be compared{advice}", field.ty.name)
}

fn compare(ty: &Arc<Type>, field: Field, name: &str, sign: &str, text: &str) -> Result<Node, String> {
    if sign == "=~" || sign == "!~" {
        if !field.ty.is_string() && field.ty.format.is_none() && field.ty.kind != Kind::Enum {
            return Err(format!("{name} {sign}: {name} is no text but {}", field.ty.name));
        }
        let regex = Regex::new(text).map_err(|e| format!("{name} {sign} {text:?}: {e}"))?;
        let node = Node::Matches(Shown::new(ty, name)?, regex);
        return Ok(if sign == "!~" { Node::Not(Box::new(node)) } else { node });
    }
    let compare = Compare::named(sign);
    let value = value::read(&field.ty, text);
    let value =
        value.ok_or_else(|| format!("{name} {sign} {text:?}: {name} is {}", value::wanted(&field.ty)));
    Ok(match value {
        Err(_) if !value::is_comparable(&field.ty) => return Err(cannot_compare(&field, name)),
        Err(why) => return Err(why),
        Ok(Value::Integer(value)) => Node::Integer(value::unsigned(field), compare, value),
        Ok(Value::Float(value)) => Node::Float(field, compare, value),
        Ok(Value::Text(value)) => Node::Text(field, compare, value),
        Ok(Value::Bytes(value)) => Node::Bytes(field, compare, value),
        Ok(Value::Network(..)) if compare.is_about_order() => {
            return Err(format!(
                "{name} {sign} {text:?}: a network contains addresses or not: == or != is wanted"
            ));
        }
        Ok(Value::Network(start, bits)) => match compare {
            Compare::Equal => Node::Network(field, start, bits),
            _ => Node::Not(Box::new(Node::Network(field, start, bits))),
        },
        Ok(Value::Shown(value)) => Node::Shown(Shown::new(ty, name)?, compare, value),
        Ok(Value::Duration(value)) if compare.is_about_order() => Node::Integer(field, compare, value.into()),
        Ok(Value::Duration(value)) => {
            let (shown, mut record) = (Shown::new(ty, name)?, vec![0; ty.size]);
            let start = (field.bit_offset / 8) as usize;
            if let Some(place) = record.get_mut(start..start + 8) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
            let text = shown.of(&record, <[u8]>::to_vec);
            Node::Shown(shown, compare, text)
        }
    })
}
