//! Maps that have no room, and what is there already.

use eunomia::Status;

use crate::fixture::{Clean, package, refused};
use crate::needs_root;
use crate::support::opened;

const SMALL: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 2);
    __type(key, u32);
    __type(value, u32);
} pairs SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 3);
    __type(key, u32);
    __type(value, u32);
} places SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(void *ctx)
{
    u32 key = 0;
    return bpf_map_lookup_elem(&pairs, &key) == bpf_map_lookup_elem(&places, &key);
}

char LICENSE[] SEC("license") = "GPL";
"#;

#[test]
fn a_map_without_room_and_a_key_that_is_there_are_told() {
    needs_root!();
    const NOEXIST: u64 = 1;
    const EXIST: u64 = 2;
    let package = package(SMALL);
    let clean = Clean::new();
    let vm = opened(&package);
    vm.load().unwrap();
    vm.map_set_json("pairs", "1", "1", NOEXIST).unwrap();
    vm.map_set_json("pairs", "2", "1", 0).unwrap();
    let set = |map: &str, key: &str, flags: u64| vm.map_set_json(map, key, "1", flags);
    let full =
        refused(set("pairs", "3", 0), Status::System, &["\"pairs\"", "it is full", "room for 2 entries"]);
    assert_eq!(full.errno, libc::E2BIG);
    let twice = refused(set("pairs", "1", NOEXIST), Status::System, &["\"pairs\"", "the key exists already"]);
    assert_eq!(twice.errno, libc::EEXIST);
    refused(set("pairs", "3", EXIST), Status::NotFound, &["\"pairs\"", "no such entry"]);
    let words = ["\"places\"", "index is out of range", "3 entries"];
    assert_eq!(refused(set("places", "3", 0), Status::System, &words).errno, libc::E2BIG);
    drop(vm);
    drop(clean);
}
