//! Checks what libbpf assumes about an object's BTF and does not check itself. Without these checks libbpf could crash
//! or never return. All other errors are left to libbpf and the kernel.

use super::reader::{Btf, BtfKind, Entry, Part, bad};
use super::relocation::{Query, Relocation, relocations};
use crate::error::{Error, Result};

/// Maximum number of bytes of all variables in `.kconfig`. A value in the kernel's configuration is at most one line.
const MAX_KCONFIG: u64 = 1 << 20;
/// Maximum number of bytes of an access string; libbpf accepts 64 indices.
const MAX_ACCESS: usize = 256;

impl Btf {
    /// Refuses types that libbpf cannot handle.
    pub fn check_for_libbpf(&self) -> Result<()> {
        self.check_nesting()?;
        for (id, entry) in self.entries() {
            match entry.kind {
                BtfKind::Struct | BtfKind::Union => self.check_bit_fields(id, entry)?,
                BtfKind::Datasec => self.check_section(id, entry)?,
                _ => {}
            }
        }
        self.check_kconfig()?;
        self.check_maps()?;
        self.check_struct_ops()
    }

    /// Returns the number of variables in all data sections, maps included.
    pub fn variable_count(&self) -> usize {
        self.variables(|_| true).count()
    }

    /// Returns the number of different types to which `relocations` refer.
    pub fn count_relocated_types(&self, relocations: &[Relocation]) -> usize {
        let mut seen = vec![false; self.len() as usize];
        let types = relocations.iter().map(|relocation| relocation.type_id as usize);
        types.filter(|&id| seen.get_mut(id).is_some_and(|seen| !std::mem::replace(seen, true))).count()
    }

    /// Returns the CO-RE relocations of a `.BTF.ext` section. Refuses those that libbpf would follow beyond the end of a
    /// type, and a byte order that libbpf would convert in place.
    pub fn relocations(&self, btf_ext: &[u8]) -> Result<Vec<Relocation>> {
        let relocations = relocations(btf_ext)
            .ok_or_else(|| bad(".BTF.ext is malformed, or not in the byte order of this machine"))?;
        relocations.iter().try_for_each(|relocation| self.check_relocation(relocation))?;
        Ok(relocations)
    }

    fn check_relocation(&self, relocation: &Relocation) -> Result<()> {
        const INSTRUCTION: u32 = 8;
        let Relocation { offset, type_id, access, .. } = *relocation;
        if offset % INSTRUCTION != 0 {
            return Err(bad(format_args!("relocation at offset {offset}, which is inside an instruction")));
        }
        let access = self.string(access).unwrap_or("");
        if access.len() > MAX_ACCESS {
            let len = access.len();
            return Err(bad(format_args!(
                "relocation at offset {offset}: an access string of {len} bytes, more than {MAX_ACCESS}"
            )));
        }
        // libbpf reads each index as an `int`. The first index may be negative in C; it is a large number here.
        let is_valid = |(position, index): (usize, &str)| {
            let pointer = position == 0 && relocation.query() != Query::Constant;
            index.parse::<u64>().is_ok_and(|index| pointer || i32::try_from(index).is_ok())
        };
        if access.split(':').enumerate().all(is_valid) {
            return Ok(());
        }
        Err(self.bad_type(
            type_id,
            format_args!("relocation at offset {offset}: invalid access string {access:?}"),
        ))
    }

    /// Checks that bit-fields have integer types: libbpf divides by the size of the type.
    fn check_bit_fields(&self, id: u32, entry: &Entry) -> Result<()> {
        let integer = |part: &Part| {
            let entry = self.strip(part.ty).and_then(|id| self.entry(id));
            entry.is_some_and(|entry| {
                matches!(entry.kind, BtfKind::Int | BtfKind::Enum | BtfKind::Enum64) && entry.arg > 0
            })
        };
        match self.parts(entry).iter().find(|part| is_bit_field(entry, part) && !integer(part)) {
            Some(part) => {
                let (member, ty) = (self.part_name(part), part.ty);
                Err(self.bad_type(
                    id,
                    format_args!("bit-field {member:?} has type {ty}, which is not an integer"),
                ))
            }
            None => Ok(()),
        }
    }

    /// Checks that each item of a section is a variable: libbpf treats it as one, and writes to it.
    fn check_section(&self, id: u32, entry: &Entry) -> Result<()> {
        let kind = |part: &Part| self.entry(part.ty).map(|entry| entry.kind);
        let functions = self.name(id) == Some(".ksyms");
        let variable =
            |part: &Part| kind(part) == Some(BtfKind::Var) || functions && kind(part) == Some(BtfKind::Func);
        match self.parts(entry).iter().find(|part| !variable(part)) {
            Some(part) => Err(self.bad_type(id, format_args!("type {} in it is not a variable", part.ty))),
            None => Ok(()),
        }
    }

    /// Returns the variables of the sections whose names `is_selected` accepts.
    fn variables(&self, is_selected: fn(&str) -> bool) -> impl Iterator<Item = &Part> {
        let sections = self.entries().filter(|(_, entry)| entry.kind == BtfKind::Datasec);
        let named = sections.filter(move |(id, _)| self.name(*id).is_some_and(is_selected));
        named.flat_map(|(_, entry)| self.parts(entry))
    }

    /// Refuses struct_ops maps that are defined in `.maps`: libbpf looks for the operations of each struct_ops map, and
    /// these have none.
    fn check_maps(&self) -> Result<()> {
        const STRUCT_OPS: u64 = 26; // BPF_MAP_TYPE_STRUCT_OPS
        let follow = |id: u32| self.strip(id).and_then(|id| self.entry(id));
        for part in self.variables(|name| name == ".maps") {
            let definition = self.entry(part.ty).and_then(|var| follow(var.arg));
            let members = definition.map_or(&[][..], |entry| self.parts(entry));
            let kinds = members.iter().filter(|member| self.part_name(member) == "type");
            // A definition encodes the value of a member as the number of elements of an array that the member points
            // to.
            let array = |member: &Part| self.entry(follow(member.ty)?.arg);
            let kind = |member: &Part| Some(self.parts(array(member)?).first()?.value);
            if kinds.into_iter().any(|member| kind(member) == Some(STRUCT_OPS)) {
                return Err(self.bad_type(part.ty, "a struct_ops map in .maps"));
            }
        }
        Ok(())
    }

    /// Checks where struct_ops maps end in their section: libbpf adds their offset and size in 32 bits.
    fn check_struct_ops(&self) -> Result<()> {
        let mut checked = vec![false; self.len() as usize];
        for part in self.variables(|name| name.trim_start_matches('?').starts_with(".struct_ops")) {
            let operations = self.entry(part.ty).and_then(|var| self.strip(var.arg));
            let Some((id, entry)) = operations.and_then(|id| Some((id, self.entry(id)?))) else { continue };
            let (offset, size) = (part.value & u64::from(u32::MAX), u64::from(entry.arg));
            if offset + size > u32::MAX.into() {
                return Err(
                    self.bad_type(part.ty, format_args!("{size} bytes at offset {offset} of its section"))
                );
            }
            if !checked[id as usize] {
                self.check_operations(id, entry)?;
            }
            checked[id as usize] = true;
        }
        Ok(())
    }

    /// Checks the members of a struct_ops map: libbpf reads bit-fields like other members, and writes to pointers
    /// without a bounds check. libbpf checks the layout of all other members itself.
    fn check_operations(&self, id: u32, entry: &Entry) -> Result<()> {
        const POINTER: u64 = 8;
        let kind = |part: &Part| Some(self.entry(self.strip(part.ty)?)?.kind);
        let outside =
            |part: &Part| kind(part) == Some(BtfKind::Ptr) && part.value / 8 + POINTER > entry.arg.into();
        let is_invalid = |part: &&Part| is_bit_field(entry, part) || outside(part);
        let Some(part) = self.parts(entry).iter().find(is_invalid) else { return Ok(()) };
        let what = if is_bit_field(entry, part) { "a bit-field" } else { "beyond its end" };
        let member = self.part_name(part);
        Err(self.bad_type(id, format_args!("member {member:?} of a struct_ops map is {what}")))
    }

    /// Limits the size of all variables in `.kconfig`: libbpf adds up their sizes in an `int`.
    fn check_kconfig(&self) -> Result<()> {
        let mut size = 0;
        for part in self.variables(|name| name == ".kconfig") {
            size += self.kconfig_size(part.ty)?;
            if size > MAX_KCONFIG {
                return Err(
                    self.bad_type(part.ty, format_args!("{size} bytes of .kconfig, more than {MAX_KCONFIG}"))
                );
            }
        }
        Ok(())
    }

    /// Returns the size of a variable that libbpf sets from the kernel's configuration. libbpf refuses anything but a
    /// number, an enum or a string, but only after it has visited all nested members.
    fn kconfig_size(&self, var: u32) -> Result<u64> {
        const ENUM: u32 = 4; // the size that libbpf writes
        let target = |id| self.entry(self.strip(id)?);
        let size = self.entry(var).and_then(|var| target(var.arg)).and_then(|entry| match entry.kind {
            BtfKind::Int => Some(entry.arg.into()),
            BtfKind::Enum | BtfKind::Enum64 => Some(entry.arg.into()).filter(|_| entry.arg >= ENUM),
            BtfKind::Array => {
                let part = self.parts(entry).first()?;
                let element = target(part.ty).filter(|element| element.kind == BtfKind::Int)?;
                Some(part.value * u64::from(element.arg))
            }
            _ => None,
        });
        size.ok_or_else(|| self.bad_type(var, "a variable in .kconfig must be a number, an enum or a string"))
    }

    /// Refuses a type that contains itself, as a member, as an element or through typedefs. Code that follows types
    /// without a limit would never return.
    fn check_nesting(&self) -> Result<()> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            New,
            Open,
            Done,
        }
        let mut states = vec![State::New; self.len() as usize];
        let mut path: Vec<(u32, usize)> = Vec::new();
        for (start, _) in self.entries() {
            if states[start as usize] == State::New {
                path.push((start, 0));
            }
            while let Some((id, next)) = path.last_mut() {
                let (id, index) = (*id, *next);
                *next += 1;
                states[id as usize] = State::Open;
                match self.inner_type(id, index).map(|inner| (inner, states[inner as usize])) {
                    Some((inner, State::New)) => path.push((inner, 0)),
                    Some((_, State::Open)) => {
                        let name = self.name(id).unwrap_or("without a name");
                        return Err(bad(format_args!("type {id} ({name}) contains itself")));
                    }
                    Some((_, State::Done)) => {}
                    None => {
                        states[id as usize] = State::Done;
                        path.pop();
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the type at `index` among the types that a value of type `id` contains.
    fn inner_type(&self, id: u32, index: usize) -> Option<u32> {
        let entry = self.entry(id)?;
        match entry.kind {
            kind if kind.is_modifier() => Some(entry.arg).filter(|_| index == 0),
            BtfKind::Struct | BtfKind::Union | BtfKind::Array => {
                self.parts(entry).get(index).map(|part| part.ty)
            }
            _ => None,
        }
    }

    fn bad_type(&self, id: u32, what: impl std::fmt::Display) -> Error {
        bad(format_args!("type {id} ({}): {what}", self.name(id).unwrap_or("without a name")))
    }
}

fn is_bit_field(entry: &Entry, member: &Part) -> bool {
    entry.flag && member.value >> 24 != 0
}
