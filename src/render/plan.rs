//! A plan: a type, compiled once at load, for writing its records.

use std::ops::Range;
use std::sync::Arc;

use super::compile::{CompiledType, compile};
use super::steps::{Code, Column};
use crate::error::{Error, Result, Status};
use crate::types::Type;

/// Maximum number of bytes of a line, without a flexible array at its end.
const MAX_OUTPUT: u64 = 64 << 20;

/// A type, compiled for writing its records.
#[derive(Clone, Debug)]
pub struct Plan {
    ty: Arc<Type>,
    pub(super) code: Code,
    pub(super) json: Range<usize>,
    pub(super) columns: Vec<Column>,
    pub(super) header: Vec<u8>,
    max_json_len: usize,
}

impl Plan {
    /// Compiles a type. Fails if a record could become too long.
    pub fn new(ty: &Arc<Type>) -> Result<Plan> {
        if !ty.is_bounded() {
            return Err(Error::new(
                Status::Type,
                format_args!("{}: too many members, or nested too deep", ty.name),
            ));
        }
        let CompiledType { code, json, json_len, columns, header, row_len } = compile(ty);
        if json_len.max(row_len) > MAX_OUTPUT {
            return Err(Error::new(
                Status::Type,
                format_args!("{}: a record could be {json_len} bytes long", ty.name),
            ));
        }
        Ok(Plan { ty: ty.clone(), code, json, columns, header, max_json_len: json_len as usize })
    }

    /// Returns the length of the longest JSON of a record that is not longer than its type, in bytes.
    pub fn max_json_len(&self) -> usize {
        self.max_json_len
    }

    /// Returns its type.
    pub fn ty(&self) -> &Arc<Type> {
        &self.ty
    }

    /// Interns its type: replaces it with an equal one in `types`, or else adds it there.
    pub fn intern_type(&mut self, types: &mut Vec<Arc<Type>>) {
        match types.iter().find(|ty| **ty == self.ty) {
            Some(ty) => self.ty = Arc::clone(ty),
            None => types.push(Arc::clone(&self.ty)),
        }
    }
}
