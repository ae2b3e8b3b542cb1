//! Decides for each map of a new version whether it keeps the content of the running version's map.
//!
//! The kernel and libbpf check nothing when a map is used again: a hash map silently becomes a per-CPU array. So everything is
//! compared here.

use std::sync::Arc;

use crate::bpf::constants::{LOST_MAP, map_type};
use crate::bpf::map::{Form, Map};
use crate::types::{Kind, Type};

/// The types of maps that can be carried over. Buffers belong to their readers; program arrays, stacks, struct_ops and maps of
/// maps refer to objects of the version that created them.
const CARRIED: [u32; 14] = [
    map_type::HASH,
    map_type::ARRAY,
    map_type::PERCPU_HASH,
    map_type::PERCPU_ARRAY,
    map_type::LRU_HASH,
    map_type::LRU_PERCPU_HASH,
    map_type::LPM_TRIE,
    map_type::QUEUE,
    map_type::STACK,
    map_type::BLOOM_FILTER,
    map_type::SK_STORAGE,
    map_type::INODE_STORAGE,
    map_type::TASK_STORAGE,
    map_type::CGRP_STORAGE,
];

/// Structs of the kernel that tie a value to the program that initialized it, or to types of its object.
const TIED: [&str; 6] = [
    "struct bpf_timer",
    "struct bpf_wq",
    "struct bpf_task_work",
    "struct bpf_list_head",
    "struct bpf_rb_root",
    "struct bpf_refcount",
];

/// Returns why `new` starts empty instead of with the content of `old`, the map of the same name in the running version.
/// `None` if it is carried over.
#[inline(never)]
pub fn why_fresh(old: Option<&Map>, new: &Map) -> Option<&'static str> {
    let Some(old) = old else { return Some("new") };
    if is_of_version(new) {
        return Some("counts for one version");
    }
    if old.is_internal || new.is_internal {
        return Some("a data section");
    }
    if !CARRIED.contains(&new.kind) || old.kind != new.kind {
        return Some(if old.kind == new.kind { "a type that is never carried over" } else { "another type" });
    }
    let differences = [
        (old.flags != new.flags || old.extra() != new.extra(), "other flags"),
        (old.key.size != new.key.size, "another key size"),
        (old.value.size != new.value.size, "another value size"),
        (old.max_entries != new.max_entries, "another number of entries"),
        (!is_same_form(&old.key, &new.key), "another key type"),
        (!is_same_form(&old.value, &new.value), "another value type"),
        (old.value.ty().is_some_and(|ty| is_tied(ty)), "values that belong to their version"),
    ];
    differences.iter().find(|(differs, _)| *differs).map(|(_, reason)| *reason)
}

/// Returns the maps of `kept` that maps of a new version use, by the index of the new map.
#[inline(never)]
pub fn fitting(new: &[Arc<Map>], kept: &[Arc<Map>]) -> Vec<(usize, Arc<Map>)> {
    let mut fits = Vec::new();
    for (index, map) in new.iter().enumerate() {
        let old = kept.iter().find(|old| old.name == map.name && why_fresh(Some(old), map).is_none());
        fits.extend(old.map(|old| (index, Arc::clone(old))));
    }
    fits
}

/// Whether the entries of `old` can be copied to `new`: the values of `new` begin with the same members, and `new` has at least as
/// many entries.
pub fn can_copy(old: &Map, new: &Map) -> bool {
    // Hashes and arrays, also per CPU.
    let is_copied = CARRIED[..6].contains(&new.kind) && old.kind == new.kind;
    let is_tied = |map: &Map| map.value.ty().is_some_and(|ty| is_tied(ty));
    is_copied
        && (old.flags, old.extra(), old.key.size) == (new.flags, new.extra(), new.key.size)
        && old.max_entries <= new.max_entries
        && !(old.is_internal || new.is_internal || is_of_version(new) || is_tied(old) || is_tied(new))
        && is_same_form(&old.key, &new.key)
        && has_grown(&old.value, &new.value)
}

fn has_grown(old: &Form, new: &Form) -> bool {
    match (old.ty(), new.ty()) {
        (Some(one), Some(other)) if one.kind == Kind::Struct && other.kind == Kind::Struct => {
            let more = other.fields.get(one.fields.len()..);
            // A new member in the padding of the old struct would get the bytes of the padding.
            one.name == other.name
                && more.is_some_and(|more| more.iter().all(|field| field.bit_offset as usize >= 8 * one.size))
                && has_same_fields(one, other)
        }
        _ => old.size == new.size && is_same_form(old, new),
    }
}

/// Whether the content of a map belongs to the package, not to one version of it.
pub fn is_kept(map: &Map) -> bool {
    CARRIED.contains(&map.kind) && !map.is_internal && !is_of_version(map)
}

/// Whether each version fills the map for itself: the count of lost records, which would count twice otherwise.
fn is_of_version(map: &Map) -> bool {
    map.label() == LOST_MAP
}

/// Compares the types as far as they decide what the bytes mean. Types that are declared but exceed the limits are different.
fn is_same_form(one: &Form, other: &Form) -> bool {
    match (one.ty(), other.ty()) {
        (Some(one), Some(other)) => is_same_layout(one, other),
        (None, None) => !one.is_declared && !other.is_declared,
        _ => false,
    }
}

/// Compares names, offsets and sizes of all members. How a value is written does not matter.
pub fn is_same_layout(one: &Type, other: &Type) -> bool {
    one.name == other.name
        && (one.kind, one.size, one.signed, one.count) == (other.kind, other.size, other.signed, other.count)
        && one.fields.len() == other.fields.len()
        && has_same_fields(one, other)
        && match (&one.elem, &other.elem) {
            (Some(one), Some(other)) => is_same_layout(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
}

/// Compares the members that both have.
fn has_same_fields(one: &Type, other: &Type) -> bool {
    one.fields.iter().zip(&*other.fields).all(|(one, other)| {
        one.name == other.name
            && (one.bit_offset, one.bit_size, one.value) == (other.bit_offset, other.bit_size, other.value)
            && is_same_layout(&one.ty, &other.ty)
    })
}

/// Whether a type ties its values to the version of a package.
pub fn is_tied(ty: &Type) -> bool {
    let members = matches!(ty.kind, Kind::Struct | Kind::Union);
    TIED.contains(&&*ty.name)
        || ty.elem.as_ref().is_some_and(|elem| is_tied(elem))
        || members && ty.fields.iter().any(|field| is_tied(&field.ty))
}
