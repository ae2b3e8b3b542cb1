//! Which types of a kernel the CO-RE relocations of an object can ask for.
//!
//! Follows a relocation as libbpf does: candidates are types of the same kind and, flavours aside, the same name, in them
//! members are found by name, also in members without one. Picks more rather than less.

use std::collections::HashMap;

use eunomia::types::Relocation;

use super::types::{Types, is_composite, is_modifier};
use crate::btf;

/// Of `enum bpf_core_relo_kind`.
const FIELDS: std::ops::RangeInclusive<u32> = 0..=5;
const TYPE_ID_LOCAL: u32 = 6;
const ENUM_VALUES: std::ops::RangeInclusive<u32> = 10..=11;
const TYPE_MATCHES: u32 = 12;
/// More levels than any type of a kernel has.
const MAX_DEPTH: u32 = 64;

/// What is kept of a type.
#[derive(Default)]
pub struct Picked {
    /// Members, by their place.
    pub members: Vec<usize>,
    /// Constants of an enum, and what a pointer or function refers to.
    pub whole: bool,
}

/// Types in the order in which they were picked, which is that of the relocations: so kernels with the same types
/// give the same bytes.
#[derive(Default)]
pub struct Picks {
    pub order: Vec<u32>,
    pub by_id: HashMap<u32, Picked>,
}

/// A step into a type.
enum Step<'a> {
    Member(&'a [u8]),
    Element,
}

/// Picks what `relocations` of an object, whose types are `local`, need of a kernel's types.
pub fn pick(relocations: &[Relocation], local: &Types, kernel: &Types) -> Picks {
    let mut wanted: HashMap<&[u8], Vec<u32>> = HashMap::new();
    for relocation in relocations {
        wanted.entry(local.essential_name(relocation.type_id)).or_default();
    }
    wanted.remove(&[][..]);
    for id in kernel.ids() {
        if let Some(ids) = wanted.get_mut(kernel.essential_name(id)) {
            ids.push(id);
        }
    }
    let mut picks = Picks::default();
    for relocation in relocations.iter().filter(|relocation| relocation.kind != TYPE_ID_LOCAL) {
        let root = relocation.type_id;
        let steps = steps(local, root, local.string(relocation.access));
        for &id in wanted.get(local.essential_name(root)).into_iter().flatten() {
            if !is_same_kind(local.kind(root), kernel.kind(id)) {
                continue;
            }
            match relocation.kind {
                kind if FIELDS.contains(&kind) => picks.field(kernel, id, &steps),
                kind if ENUM_VALUES.contains(&kind) => picks.followed(kernel, id, MAX_DEPTH),
                TYPE_MATCHES => picks.all(kernel, id, MAX_DEPTH),
                _ => picks.followed(kernel, id, MAX_DEPTH),
            }
        }
    }
    picks
}

fn is_same_kind(local: u32, kernel: u32) -> bool {
    let is_enum = |kind| matches!(kind, btf::ENUM | btf::ENUM64);
    local == kernel || is_enum(local) && is_enum(kernel)
}

/// The way that indices such as `0:2:1` describe, by name; the first index counts structs behind the pointer.
fn steps<'a>(local: &Types<'a>, root: u32, access: &[u8]) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    let mut id = local.resolve(root);
    for index in access.split(|&byte| byte == b':').skip(1) {
        let index = std::str::from_utf8(index).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(index) = index else { break };
        if let Some((element, _)) = local.array(id) {
            steps.push(Step::Element);
            id = local.resolve(element);
        } else if let Some(member) = local.members(id).get(index) {
            // What is in a member without a name is found without it.
            if !member.name.is_empty() {
                steps.push(Step::Member(member.name));
            }
            id = local.resolve(member.id);
        } else {
            break;
        }
    }
    steps
}

impl Picks {
    fn add(&mut self, id: u32) -> &mut Picked {
        let order = &mut self.order;
        self.by_id.entry(id).or_insert_with(|| {
            order.push(id);
            Picked::default()
        })
    }

    fn add_member(&mut self, id: u32, index: usize) {
        let members = &mut self.add(id).members;
        if let Err(at) = members.binary_search(&index) {
            members.insert(at, index);
        }
    }

    /// The member or element that is reached from type `root`, if it is there, and all on the way to it.
    fn field(&mut self, kernel: &Types, root: u32, steps: &[Step]) {
        let mut id = kernel.resolve(root);
        let mut way = Vec::new();
        let mut arrays = Vec::new();
        for step in steps {
            match step {
                Step::Member(name) => match member(kernel, id, name, MAX_DEPTH) {
                    Some((found, path)) => {
                        way.extend(path);
                        id = kernel.resolve(found);
                    }
                    None => break,
                },
                Step::Element => match kernel.array(id) {
                    Some((element, _)) => {
                        arrays.push(id);
                        id = kernel.resolve(element);
                    }
                    None => break,
                },
            }
        }
        self.modifiers(kernel, root);
        self.leaf(kernel, kernel.resolve(root), MAX_DEPTH);
        way.into_iter().for_each(|(id, index)| self.add_member(id, index));
        arrays.into_iter().for_each(|id| self.leaf(kernel, id, MAX_DEPTH));
        self.leaf(kernel, id, MAX_DEPTH);
    }

    /// The typedefs that a type is known by.
    fn modifiers(&mut self, kernel: &Types, mut id: u32) {
        for _ in 0..MAX_DEPTH {
            if !is_modifier(kernel.kind(id)) {
                break;
            }
            self.add(id);
            id = kernel.arg(id);
        }
    }

    /// A type of which only kind, name and size count.
    fn leaf(&mut self, kernel: &Types, id: u32, depth: u32) {
        if id == 0 || depth == 0 {
            return;
        }
        self.add(id);
        if let Some((element, index)) = kernel.array(id) {
            self.leaf(kernel, kernel.resolve(element), depth - 1);
            self.leaf(kernel, kernel.resolve(index), depth - 1);
        }
    }

    /// A type and those that it refers to, structs without their members.
    fn followed(&mut self, kernel: &Types, id: u32, depth: u32) {
        if id == 0 || depth == 0 || self.by_id.get(&id).is_some_and(|picked| picked.whole) {
            return;
        }
        self.add(id).whole = true;
        match kernel.kind(id) {
            btf::ARRAY => {
                let (element, index) = kernel.array(id).unwrap_or_default();
                self.followed(kernel, element, depth - 1);
                self.followed(kernel, index, depth - 1);
            }
            btf::FUNC_PROTO => {
                self.followed(kernel, kernel.arg(id), depth - 1);
                let params = kernel.words(id);
                params.chunks_exact(2).for_each(|param| self.followed(kernel, param[1], depth - 1));
            }
            kind if kind == btf::PTR || is_modifier(kind) => self.followed(kernel, kernel.arg(id), depth - 1),
            _ => {}
        }
    }

    /// A type with all its members, in members too.
    fn all(&mut self, kernel: &Types, id: u32, depth: u32) {
        self.followed(kernel, id, depth);
        let id = kernel.resolve(id);
        if depth == 0 || !is_composite(kernel.kind(id)) {
            return;
        }
        let members = kernel.members(id);
        if self.by_id.get(&id).is_some_and(|picked| picked.members.len() == members.len()) {
            return;
        }
        self.followed(kernel, id, depth);
        (0..members.len()).for_each(|index| self.add_member(id, index));
        members.iter().for_each(|member| self.all(kernel, member.id, depth - 1));
    }
}

/// The type of a member, also of one inside members without names, and the members on the way.
fn member(kernel: &Types, id: u32, name: &[u8], depth: u32) -> Option<(u32, Vec<(u32, usize)>)> {
    if depth == 0 {
        return None;
    }
    for (index, member) in kernel.members(id).iter().enumerate() {
        if member.name == name {
            return Some((member.id, vec![(id, index)]));
        }
        if member.name.is_empty() {
            let inner = kernel.resolve(member.id);
            if let Some((found, mut path)) = self::member(kernel, inner, name, depth - 1) {
                path.insert(0, (id, index));
                return Some((found, path));
            }
        }
    }
    None
}
