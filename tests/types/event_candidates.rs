//! Candidates for event types.

use eunomia::btf::Btf;

use crate::blob::{Blob, SIGNED, STRUCT, TYPEDEF};

struct Ids {
    event: u32,
    alias: u32,
    dummy: u32,
    kernel: u32,
    kernel_alias: u32,
}

fn blob() -> (Blob, Ids) {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let pid = [("pid", int, 0)];
    let event = blob.structure(STRUCT, "event", 4, &pid);
    let nameless = blob.structure(STRUCT, "", 4, &pid);
    let alias = blob.alias(TYPEDEF, "event_t", nameless);
    let kernel = blob.structure(STRUCT, "task_struct", 4, &pid);
    let kernel_alias = blob.alias(TYPEDEF, "task_t", kernel);
    // Pointer variables keep these in the BTF.
    let dummy = blob.structure(STRUCT, "dummy", 4, &pid);
    for name in ["__eunomia_dummy_dummy_ptr", "unused"] {
        let pointer = blob.ptr(dummy);
        blob.var(name, pointer);
    }
    // None of these is a candidate.
    blob.structure(STRUCT, "empty", 0, &[]);
    let inner = blob.structure(STRUCT, "inner", 4, &pid);
    let inner_alias = blob.alias(TYPEDEF, "inner_t", inner);
    let value = blob.structure(STRUCT, "value", 4, &[("m", inner_alias, 0)]);
    let value_ptr = blob.ptr(value);
    let map = blob.structure(STRUCT, "", 8, &[("value", value_ptr, 0)]);
    let map_var = blob.var("events", map);
    blob.datasec(".maps", &[map_var]);
    let context = blob.structure(STRUCT, "context", 4, &pid);
    let context_ptr = blob.ptr(context);
    blob.func("handle", &[("ctx", context_ptr)]);
    let global = blob.structure(STRUCT, "config", 4, &pid);
    blob.var("config", global);
    (blob, Ids { event, alias, dummy, kernel, kernel_alias })
}

/// Returns a `.BTF.ext` section with CO-RE relocations for the types.
fn btf_ext(ids: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    let relocations_len = 4 + 8 + 16 * ids.len() as u32;
    let header = [32, 0, 8, 8, 0, 8, relocations_len];
    let before = [0xffff_ffff; 2]; // function infos, which are not read
    let relocations = [16, 0, ids.len() as u32];
    let records = ids.iter().flat_map(|id| [0, *id, 0, 0]);
    let words = header.into_iter().chain(before).chain(relocations).chain(records);
    bytes.extend(words.flat_map(u32::to_le_bytes));
    bytes
}

#[test]
fn unused_structs_are_event_candidates() {
    let (blob, ids) = blob();
    let btf = Btf::parse(&blob.bytes()).unwrap();
    assert_eq!(btf.event_candidates(None), [ids.event, ids.alias, ids.kernel, ids.dummy]);
}

#[test]
fn relocated_structs_are_not_candidates() {
    let (blob, ids) = blob();
    let btf = Btf::parse(&blob.bytes()).unwrap();
    for relocated in [ids.kernel, ids.kernel_alias] {
        let ext = btf_ext(&[relocated, 9999]);
        assert_eq!(btf.event_candidates(Some(&ext)), [ids.event, ids.alias, ids.dummy]);
    }
}

#[test]
fn a_malformed_relocation_section_leaves_no_candidates() {
    let (blob, ids) = blob();
    let btf = Btf::parse(&blob.bytes()).unwrap();
    let ext = btf_ext(&[ids.kernel]);
    for len in 0..ext.len() {
        assert!(btf.event_candidates(Some(&ext[..len])).is_empty(), "cut to {len} bytes");
    }
    for at in 0..ext.len() {
        let mut broken = ext.clone();
        broken[at] ^= 0xff;
        btf.event_candidates(Some(&broken));
    }
}
