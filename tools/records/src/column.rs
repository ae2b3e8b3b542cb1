//! Formats one field of a record as text or JSON.

use std::sync::Arc;

use eunomia::render::Plan;
use eunomia::types::{Field, Kind, Type};

use crate::error::Result;
use crate::field;
use crate::record_clock;

/// A field and the plan that formats it: that of a struct with one member, whose name is removed from the output.
pub struct Column {
    /// The name that the user gave.
    pub name: String,
    /// Its offset and type.
    pub field: Field,
    plan: Plan,
}

impl Column {
    fn new(name: &str, field: Field, record: &Type) -> Result<Column> {
        let member = Field { name: name.into(), ..field.clone() };
        let plan = Plan::new(&Type::structure("record", record.size, vec![member])?)?;
        Ok(Column { name: name.to_owned(), field, plan })
    }

    /// The columns called `names`, or all columns of a record.
    pub fn of(ty: &Arc<Type>, names: &[String]) -> Result<Vec<Column>> {
        if names.is_empty() {
            return field::all(ty)
                .into_iter()
                .map(|field| Column::new(&field.name.to_string(), field, ty))
                .collect();
        }
        names.iter().map(|name| Column::new(name, field::find(ty, name)?, ty)).collect()
    }

    /// Whether it contains numbers.
    pub fn is_number(&self) -> bool {
        !matches!(self.field.ty.kind, Kind::Array | Kind::Struct | Kind::Union | Kind::Enum | Kind::Bool)
    }

    /// Appends its value for a table.
    pub fn text(&self, record: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.plan.text_members(record, "", &record_clock::clock(), out);
        let prefix = self.name.len() + " = ".len();
        out.drain(start..(start + prefix).min(out.len()));
        out.pop();
    }

    /// Appends its value so that escapes are unambiguous, as in JSON strings: `\n` is a line end and `\\n` a backslash and an n.
    pub fn unambiguous_text(&self, record: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.text(record, out);
        if !out[start..].contains(&b'\\') {
            return;
        }
        let mut member = Vec::new();
        self.json_member(record, &mut member);
        let value = member.get(self.name.len() + "\"\":".len()..).unwrap_or_default();
        let Some(text) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else { return };
        out.truncate(start);
        let mut bytes = text.iter().copied();
        while let Some(byte) = bytes.next() {
            match (byte, if byte == b'\\' { bytes.next() } else { None }) {
                (_, Some(b'"')) => out.push(b'"'),
                (_, Some(escaped)) => out.extend([b'\\', escaped]),
                (byte, None) => out.push(byte),
            }
        }
    }

    /// Appends it as a member of a JSON object: `"name":value`.
    pub fn json_member(&self, record: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.plan.json(record, &record_clock::clock(), out);
        out.remove(start);
        out.pop();
    }
}

/// The plan that formats these fields as a JSON object.
pub fn json_plan(ty: &Arc<Type>, names: &[String]) -> Result<Plan> {
    let members = names.iter().map(|name| Ok(Field { name: name.as_str().into(), ..field::find(ty, name)? }));
    let members = members.collect::<Result<Vec<Field>>>()?;
    Ok(Plan::new(&Type::structure("record", ty.size, members)?)?)
}
