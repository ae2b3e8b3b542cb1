//! A type compiled once, at load, for writing its records.

use std::ops::Range;
use std::sync::Arc;

use super::code::{Code, Column};
use super::compile::{Compiled, compile};
use crate::error::{Error, Result, Status};
use crate::types::Type;

/// Bytes of the longest line a record may turn into (a flexible array at its end aside).
const MAX_OUTPUT: u64 = 64 << 20;

/// A type compiled for decoding.
#[derive(Clone, Debug)]
pub struct Plan {
    ty: Arc<Type>,
    pub(super) code: Code,
    pub(super) json: Range<usize>,
    pub(super) columns: Vec<Column>,
    pub(super) header: Vec<u8>,
    longest: usize,
}

impl Plan {
    /// Compiles a type. Fails for types whose records would become absurdly long.
    pub fn new(ty: &Arc<Type>) -> Result<Plan> {
        if !ty.is_bounded() {
            return Err(Error::new(
                Status::Type,
                format_args!("{}: too many members, or nested too deep", ty.name),
            ));
        }
        let Compiled { code, json, json_len, columns, header, row_len } = compile(ty);
        if json_len.max(row_len) > MAX_OUTPUT {
            return Err(Error::new(
                Status::Type,
                format_args!("{}: its text can be {json_len} bytes long", ty.name),
            ));
        }
        Ok(Plan { ty: ty.clone(), code, json, columns, header, longest: json_len as usize })
    }

    /// Bytes of the longest JSON text of a value that is no longer than its type.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The type it was compiled from.
    pub fn ty(&self) -> &Arc<Type> {
        &self.ty
    }

    /// Has its type be the equal one among `kept`, or adds it there.
    pub fn share_type(&mut self, kept: &mut Vec<Arc<Type>>) {
        match kept.iter().find(|ty| **ty == self.ty) {
            Some(ty) => self.ty = Arc::clone(ty),
            None => kept.push(Arc::clone(&self.ty)),
        }
    }
}
