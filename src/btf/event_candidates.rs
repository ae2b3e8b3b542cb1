//! Finds the structs that may be event types, for packages that do not specify them.
//!
//! A struct that only describes records is not used by anything else in the object. This module finds such structs and
//! leaves the choice to its caller.

use super::reader::{Btf, BtfKind, Entry};
use super::relocation::relocations;

impl Btf {
    /// Returns the ids of the types that may be event types. These are structs with a name and a size to which nothing
    /// refers: no member, array, variable (such as the definition of a map), function or pointer. `btf_ext` is the
    /// `.BTF.ext` section; structs that the programs access through CO-RE belong to the kernel and are not returned.
    ///
    /// A pointer variable that only keeps a struct in the BTF (`__eunomia_dummy_*`, or `unused` in its name) is not
    /// counted as a use. For a struct without a tag the typedef is returned. If `btf_ext` is malformed the result is
    /// empty, because no struct can be ruled out.
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

    /// Returns for each type whether something uses it, directly or through pointers, typedefs and qualifiers.
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

    /// Whether an entry is a pointer variable that only keeps a struct in the BTF.
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
