//! Filters: a condition on the fields of a record, evaluated on the bytes that the kernel wrote.
//!
//! ```text
//! any        = all { "||" all }
//! all        = one { "&&" one }
//! one        = "!" one | "(" any ")" | FIELD [ OPERATOR VALUE ]
//! OPERATOR   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~"
//! VALUE      = number | word | "string" | 'string'
//! ```
//!
//! A field alone is true if it is neither zero nor empty. A value is written as tables show it, or as the number that the
//! record holds. In a string, a backslash escapes a quote or a backslash. Nesting is bounded.

use std::sync::Arc;

use eunomia::types::Type;

use crate::error::{Error, Result};

mod condition;
mod parser;
mod value;

use condition::Condition;
use parser::Parser;

/// A condition on the records of one type.
pub struct Filter {
    condition: Condition,
    /// Fields in the filter that only other types of records have.
    pub lacking: Vec<String>,
}

impl Filter {
    /// Parses a condition on records of type `ty`. A comparison of a field that only one of the `others` has is false.
    pub fn parse(text: &str, ty: &Arc<Type>, others: &[Arc<Type>]) -> Result<Filter> {
        let mut parser = Parser::new(text, ty, others).map_err(Error::new)?;
        let condition = parser.filter().map_err(Error::new)?;
        Ok(Filter { condition, lacking: parser.lacking })
    }

    /// Whether a record matches.
    pub fn accepts(&self, record: &[u8]) -> bool {
        self.condition.holds(record)
    }
}
