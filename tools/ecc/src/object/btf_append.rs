//! Appends types from the debug information to the BTF.
//!
//! clang's BTF describes the types that maps, globals and function signatures use; an event is often only a local variable.
//! Types that are already in the BTF are reused. The others are appended, so that no id changes.

use std::collections::HashMap;

use crate::error::Result;
use crate::object::btf::{self, Btf, KIND_FLAG, record};
use crate::object::dwarf::{Composite, Dwarf, Struct, Type, TypeId};

/// Deeper nesting than in any handwritten type.
const MAX_DEPTH: u32 = 64;

const INT_SIGNED: u32 = 1;
const INT_BOOL: u32 = 4;

/// Copies types from debug information to BTF.
pub struct Append<'a, 'd> {
    dwarf: &'a Dwarf<'d>,
    btf: &'a mut Btf,
    done: HashMap<TypeId, u32>,
}

impl<'a, 'd> Append<'a, 'd> {
    pub fn new(dwarf: &'a Dwarf<'d>, btf: &'a mut Btf) -> Append<'a, 'd> {
        Append { dwarf, btf, done: HashMap::new() }
    }

    /// Adds a type and all types that it needs. Returns its BTF id.
    pub fn add(&mut self, id: TypeId) -> Result<u32> {
        self.value(Some(id), 0)
    }

    /// Adds the type of an event. Returns its BTF id and name. A struct without a tag has the name of a typedef, which is
    /// also added.
    pub fn add_named(&mut self, id: TypeId, composite: Option<&Struct>) -> Result<(u32, String)> {
        if let Some(item) = composite {
            let added = self.add(item.typedef.unwrap_or(item.id))?;
            return Ok((self.btf.resolve(added), item.name.clone()));
        }
        let added = self.add(id)?;
        let added = self.btf.unqualified(added);
        let name = Some(self.btf.name(added)).filter(|name| !name.is_empty());
        Ok((added, name.unwrap_or_else(|| self.btf.type_text(added))))
    }

    fn value(&mut self, id: Option<TypeId>, depth: u32) -> Result<u32> {
        let Some(id) = id else { return Ok(0) };
        if let Some(&done) = self.done.get(&id) {
            return Ok(done);
        }
        if depth > MAX_DEPTH {
            return Err("a type is nested too deeply".into());
        }
        let added = match self.dwarf.get(id)? {
            Type::Composite(composite) => return self.composite(id, &composite, depth),
            Type::Base { name, size, encoding } => self.base(&name, size, encoding),
            Type::Pointer(target) => {
                let target = self.target(target, depth + 1)?;
                self.btf.intern(record(0, btf::PTR, 0, target, &[]))
            }
            Type::Array { element, counts } => self.array(element, &counts, depth)?,
            Type::Enum { name, size, values } => self.enumeration(&name, size, &values),
            Type::Typedef { name, target } => {
                if let Some(existing) = self.untagged(&name, target)? {
                    self.done.insert(id, existing);
                    self.done.extend(target.map(|target| (target, self.btf.resolve(existing))));
                    return Ok(existing);
                }
                let target = self.value(target, depth + 1)?;
                self.named(btf::TYPEDEF, &name, target)
            }
            Type::Const(target) => self.qualifier(btf::CONST, target, depth)?,
            Type::Volatile(target) => self.qualifier(btf::VOLATILE, target, depth)?,
            Type::Restrict(target) => self.qualifier(btf::RESTRICT, target, depth)?,
            // Such a type is reachable only through pointers, and events do not need function signatures.
            Type::Function => 0,
        };
        self.done.insert(id, added);
        Ok(added)
    }

    /// Adds the target of a pointer. A struct that is not in the BTF is only declared: it may refer to thousands of types.
    fn target(&mut self, id: Option<TypeId>, depth: u32) -> Result<u32> {
        let Some(id) = id else { return Ok(0) };
        if let Some(&done) = self.done.get(&id) {
            return Ok(done);
        }
        if depth > MAX_DEPTH {
            return Err("a type is nested too deeply".into());
        }
        Ok(match self.dwarf.get(id)? {
            Type::Composite(composite) if composite.name.is_empty() => 0,
            Type::Composite(composite) => match self.btf.find(kind(&composite), &composite.name) {
                Some(existing) => existing,
                None => self.forward(&composite),
            },
            Type::Typedef { name, target } => {
                let target = self.target(target, depth + 1)?;
                self.named(btf::TYPEDEF, &name, target)
            }
            Type::Const(target) => {
                let target = self.target(target, depth + 1)?;
                self.btf.intern(record(0, btf::CONST, 0, target, &[]))
            }
            Type::Volatile(target) => {
                let target = self.target(target, depth + 1)?;
                self.btf.intern(record(0, btf::VOLATILE, 0, target, &[]))
            }
            _ => self.value(Some(id), depth)?,
        })
    }

    /// The typedef of this name in the BTF, if it names the same untagged struct or union as in the debug information.
    fn untagged(&self, name: &str, target: Option<TypeId>) -> Result<Option<u32>> {
        let Some(Type::Composite(composite)) = target.map(|id| self.dwarf.get(id)).transpose()? else {
            return Ok(None);
        };
        let found = self.btf.find(btf::TYPEDEF, name).filter(|_| composite.name.is_empty());
        let is_same = |id: &u32| {
            let struct_id = self.btf.resolve(*id);
            self.btf.kind(struct_id) == kind(&composite)
                && self.btf.name(struct_id).is_empty()
                && self.btf.arg(struct_id) == composite.size
        };
        Ok(found.filter(is_same))
    }

    fn composite(&mut self, id: TypeId, composite: &Composite, depth: u32) -> Result<u32> {
        let existing = self.btf.find(kind(composite), &composite.name);
        if let Some(existing) = existing.filter(|&existing| self.btf.arg(existing) == composite.size) {
            self.done.insert(id, existing);
            return Ok(existing);
        }
        // Reserve the id first: members may refer back to the struct.
        let added = self.btf.reserve();
        self.done.insert(id, added);
        let bit_fields = composite.members.iter().any(|member| member.bit_size > 0);
        let mut fields = Vec::with_capacity(composite.members.len() * 3);
        for member in &composite.members {
            let place =
                if bit_fields { member.bit_size << 24 | member.bit_offset } else { member.bit_offset };
            let member_type = self.value(member.id, depth + 1)?;
            fields.extend([self.btf.intern_string(&member.name), member_type, place]);
        }
        let name = self.btf.intern_string(&composite.name);
        let mut bytes = record(name, kind(composite), composite.members.len(), composite.size, &fields);
        if bit_fields {
            set_kind_flag(&mut bytes);
        }
        self.btf.fill(added, bytes);
        Ok(added)
    }

    fn forward(&mut self, composite: &Composite) -> u32 {
        let name = self.btf.intern_string(&composite.name);
        let mut bytes = record(name, btf::FWD, 0, 0, &[]);
        if composite.union {
            set_kind_flag(&mut bytes);
        }
        self.btf.intern(bytes)
    }

    fn base(&mut self, name: &str, size: u32, encoding: gimli::DwAte) -> u32 {
        let name = self.btf.intern_string(name);
        let flags = match encoding {
            gimli::DW_ATE_float => return self.btf.intern(record(name, btf::FLOAT, 0, size, &[])),
            gimli::DW_ATE_signed | gimli::DW_ATE_signed_char => INT_SIGNED,
            gimli::DW_ATE_boolean => INT_BOOL,
            _ => 0,
        };
        self.btf.intern(record(name, btf::INT, 0, size, &[flags << 24 | size.saturating_mul(8)]))
    }

    fn array(&mut self, element: Option<TypeId>, counts: &[u32], depth: u32) -> Result<u32> {
        let mut element = self.value(element, depth + 1)?;
        // The index type that clang uses in BTF.
        let name = self.btf.intern_string("__ARRAY_SIZE_TYPE__");
        let index = self.btf.intern(record(name, btf::INT, 0, 4, &[32]));
        for &count in counts.iter().rev() {
            element = self.btf.intern(record(0, btf::ARRAY, 0, 0, &[element, index, count]));
        }
        Ok(element)
    }

    fn enumeration(&mut self, name: &str, size: u32, values: &[(String, i64)]) -> u32 {
        let wide = size > 4;
        let kind = if wide { btf::ENUM64 } else { btf::ENUM };
        if let Some(existing) = self.btf.find(kind, name) {
            return existing;
        }
        let mut words = Vec::new();
        for (name, value) in values {
            words.extend([self.btf.intern_string(name), *value as u32]);
            words.extend(wide.then_some((*value >> 32) as u32));
        }
        let name = self.btf.intern_string(name);
        let mut bytes = record(name, kind, values.len(), size, &words);
        if values.iter().any(|(_, value)| *value < 0) {
            set_kind_flag(&mut bytes);
        }
        self.btf.intern(bytes)
    }

    fn qualifier(&mut self, kind: u32, target: Option<TypeId>, depth: u32) -> Result<u32> {
        let target = self.value(target, depth + 1)?;
        Ok(self.btf.intern(record(0, kind, 0, target, &[])))
    }

    fn named(&mut self, kind: u32, name: &str, target: u32) -> u32 {
        let name = self.btf.intern_string(name);
        self.btf.intern(record(name, kind, 0, target, &[]))
    }
}

fn kind(composite: &Composite) -> u32 {
    if composite.union { btf::UNION } else { btf::STRUCT }
}

fn set_kind_flag(record: &mut [u8]) {
    let info = &mut record[4..8];
    let flagged = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]) | KIND_FLAG;
    info.copy_from_slice(&flagged.to_ne_bytes());
}
