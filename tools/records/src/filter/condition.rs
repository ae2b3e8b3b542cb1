//! Conditions on the bytes of a record.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::sync::Arc;

use eunomia::types::{Field, Type};
use regex_lite::Regex;

use crate::column::Column;
use crate::error::Result;
use crate::field;

/// A condition on a record.
pub enum Condition {
    Any(Vec<Condition>),
    All(Vec<Condition>),
    Not(Box<Condition>),
    Integer(Field, Compare, i128),
    Float(Field, Compare, f64),
    Text(Field, Compare, Vec<u8>),
    /// Compares all bytes of the field: addresses, digits.
    Bytes(Field, Compare, Vec<u8>),
    /// Some byte of the field is not zero.
    IsSet(Field),
    /// The address begins with these bits of the network.
    Network(Field, Vec<u8>, u32),
    /// Compares the field as a table shows it.
    Shown(Shown, Compare, Vec<u8>),
    Matches(Shown, Regex),
    /// A condition on a field that this type does not have.
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    /// The comparison with that operator.
    pub fn of_operator(sign: &str) -> Compare {
        match sign {
            "==" => Compare::Equal,
            "!=" => Compare::Unequal,
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            ">" => Compare::Greater,
            _ => Compare::GreaterOrEqual,
        }
    }

    /// Whether it compares by order.
    pub fn is_ordering(self) -> bool {
        !matches!(self, Compare::Equal | Compare::Unequal)
    }

    /// Whether the comparison is true of this order. `None` means that a value is not a number.
    pub fn holds(self, order: Option<Ordering>) -> bool {
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

/// A field as a table shows it.
pub struct Shown {
    column: Column,
    /// A buffer that is reused for every record.
    text: RefCell<Vec<u8>>,
}

impl Shown {
    /// The field called `name`.
    pub fn new(ty: &Arc<Type>, name: &str) -> Result<Shown, String> {
        let mut columns = Column::of(ty, &[name.to_owned()]).map_err(|e| e.text().to_owned())?;
        let column = columns.pop().ok_or("empty field name")?;
        Ok(Shown { column, text: RefCell::default() })
    }

    /// Passes the text of the field to `look`.
    pub fn of<T>(&self, record: &[u8], look: impl FnOnce(&[u8]) -> T) -> T {
        let mut text = self.text.borrow_mut();
        text.clear();
        self.column.text(record, &mut text);
        look(&text)
    }
}

impl Condition {
    /// Whether the condition is true of a record.
    pub fn holds(&self, record: &[u8]) -> bool {
        match self {
            Condition::Any(all) => all.iter().any(|condition| condition.holds(record)),
            Condition::All(all) => all.iter().all(|condition| condition.holds(record)),
            Condition::Not(condition) => !condition.holds(record),
            Condition::Integer(field, compare, value) => {
                compare.holds(Some(field::integer(field, record).cmp(value)))
            }
            Condition::Float(field, compare, value) => {
                compare.holds(field::float(field, record).partial_cmp(value))
            }
            Condition::Text(field, compare, value) => {
                compare.holds(Some(field::text(field, record).cmp(value)))
            }
            Condition::Bytes(field, compare, value) => {
                compare.holds(Some(field::bytes(field, record).cmp(value.iter().copied())))
            }
            Condition::IsSet(field) => field::bytes(field, record).any(|byte| byte != 0),
            Condition::Network(field, start, bits) => is_within(field::bytes(field, record), start, *bits),
            Condition::Shown(shown, compare, value) => {
                shown.of(record, |text| compare.holds(Some(text.cmp(value))))
            }
            Condition::Matches(shown, regex) => {
                shown.of(record, |text| regex.is_match(&String::from_utf8_lossy(text)))
            }
            Condition::Never => false,
        }
    }
}

/// Whether an address begins with the first `bits` bits of another.
fn is_within(address: impl Iterator<Item = u8>, start: &[u8], bits: u32) -> bool {
    let differing = address.zip(start).enumerate().find(|(_, (left, right))| left != *right);
    differing.is_none_or(|(at, (left, right))| at as u32 * 8 + (left ^ right).leading_zeros() >= bits)
}
