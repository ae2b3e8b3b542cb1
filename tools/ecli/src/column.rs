//! One field of a record as text or JSON.

use std::sync::Arc;

use eunomia::render::Plan;
use eunomia::types::{Field, Kind, Type};

use crate::error::Result;
use crate::field;
use crate::record_clock;

/// A field and the plan that writes it: that of a struct with this one member, whose frame is cut off.
pub struct Column {
    /// Its name, as the user has it.
    pub name: String,
    /// Where it lies and what it is.
    pub field: Field,
    plan: Plan,
}

impl Column {
    fn new(name: &str, field: Field, record: &Type) -> Result<Column> {
        let member = Field { name: name.into(), ..field.clone() };
        let plan = Plan::new(&Type::structure("record", record.size, vec![member])?)?;
        Ok(Column { name: name.to_owned(), field, plan })
    }

    /// The columns called `names`, or all of a record.
    pub fn of(ty: &Arc<Type>, names: &[String]) -> Result<Vec<Column>> {
        if names.is_empty() {
            return field::all(ty)
                .into_iter()
                .map(|field| Column::new(&field.name.to_string(), field, ty))
                .collect();
        }
        names.iter().map(|name| Column::new(name, field::find(ty, name)?, ty)).collect()
    }

    /// Whether numbers stand in it.
    pub fn is_number(&self) -> bool {
        !matches!(self.field.ty.kind, Kind::Array | Kind::Struct | Kind::Union | Kind::Enum | Kind::Bool)
    }

    /// Appends its value bare, as it stands in a table.
    pub fn text(&self, record: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.plan.text_members(record, "", &record_clock::clock(), out);
        let frame = self.name.len() + " = ".len();
        out.drain(start..(start + frame).min(out.len()));
        out.pop();
    }

    /// The same, but a backslash that is no escape is doubled: `\n` is a line end and `\\n` the two characters. JSON has it
    /// so in quotes, and everything else as it stands.
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

/// A plan for the JSON of these fields.
pub fn json_plan(ty: &Arc<Type>, names: &[String]) -> Result<Plan> {
    let members = names.iter().map(|name| Ok(Field { name: name.as_str().into(), ..field::find(ty, name)? }));
    let members = members.collect::<Result<Vec<Field>>>()?;
    Ok(Plan::new(&Type::structure("record", ty.size, members)?)?)
}
