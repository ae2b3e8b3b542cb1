//! Which structs may describe events, when a package does not say.
//!
//! A struct that only describes records is used by nothing else in the object. This module finds those and never
//! chooses among them.

use super::reader::{Btf, BtfKind, Entry};
use super::relocation::relocations;

impl Btf {
    /// Ids of the types that may be an event's: named structs with a size that nothing refers to: no member, array,
    /// variable (a map's definition is one), function or pointer. A struct that the programs read through CO-RE
    /// (`btf_ext`, the `.BTF.ext` section) is the kernel's and no candidate.
    ///
    /// A pointer variable that exists only to keep a struct in the BTF (`__eunomia_dummy_*`, or `unused` in its name)
    /// does not count as a use. A struct without a name that has a typedef is returned as that typedef. A malformed
    /// `btf_ext` leaves no candidates, for nothing can then be ruled out.
    pub fn event_candidates(&self, btf_ext: Option<&[u8]>) -> Vec<u32> {
        let mut used = self.used_types();
        if let Some(ext) = btf_ext {
            let Some(relocations) = relocations(ext) else { return Vec::new() };
            for id in relocations.iter().map(|relocation| relocation.type_id) {
                mark(&mut used, id);
                if let Some(id) = self.strip(id) {
                    mark(&mut used, id);
                }
            }
        }
        self.entries()
            .filter(|(id, entry)| !used[*id as usize] && self.may_be_event(*id, entry))
            .map(|(id, _)| id)
            .collect()
    }

    fn may_be_event(&self, id: u32, entry: &Entry) -> bool {
        if self.name(id).is_none() {
            return false;
        }
        let sized_struct = |entry: &Entry| entry.kind == BtfKind::Struct && entry.arg > 0;
        match entry.kind {
            BtfKind::Typedef => {
                let named = self.entry(entry.arg).filter(|_| self.name(entry.arg).is_none());
                named.is_some_and(sized_struct)
            }
            _ => sized_struct(entry),
        }
    }

    /// For every type whether something uses it, be it through pointers, typedefs and qualifiers.
    fn used_types(&self) -> Vec<bool> {
        let mut used = vec![false; self.len() as usize];
        let mut todo: Vec<u32> = Vec::new();
        for (id, entry) in self.entries() {
            todo.extend(self.parts(entry).iter().map(|part| part.ty));
            let user = matches!(entry.kind, BtfKind::Func | BtfKind::FuncProto | BtfKind::Var);
            if user && !self.keeps_type_only(id, entry) {
                todo.push(entry.arg);
            }
        }
        while let Some(id) = todo.pop() {
            let Some(entry) = self.entry(id).filter(|_| !used[id as usize]) else { continue };
            used[id as usize] = true;
            if entry.kind.is_modifier() || entry.kind == BtfKind::Ptr {
                todo.push(entry.arg);
            }
        }
        used
    }

    /// A pointer variable whose only purpose is to have its struct described.
    fn keeps_type_only(&self, id: u32, entry: &Entry) -> bool {
        let name = self.name(id).unwrap_or("");
        let target = self.strip(entry.arg).and_then(|id| self.entry(id));
        entry.kind == BtfKind::Var
            && (name.starts_with("__eunomia_dummy_") || name.contains("unused"))
            && target.is_some_and(|target| target.kind == BtfKind::Ptr)
    }
}

fn mark(used: &mut [bool], id: u32) {
    if let Some(flag) = used.get_mut(id as usize) {
        *flag = true;
    }
}
