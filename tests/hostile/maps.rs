//! Full maps, existing keys, and mappings of the host.

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

const ARENA: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
    __uint(type, 33); /* BPF_MAP_TYPE_ARENA */
    __uint(map_flags, 1 << 10);
    __uint(max_entries, 1);
    __ulong(map_extra, 0x61000000);
} arena SEC(".maps");

char LICENSE[] SEC("license") = "GPL";
"#;

#[test]
fn an_arena_is_not_mapped_over_memory_of_the_host() {
    needs_root!();
    const PAGE: usize = 4096;
    let package = package(ARENA);
    let clean = Clean::new();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new page at an unused address, unmapped below.
    let page = unsafe { libc::mmap(0x6100_0000 as *mut _, PAGE, protection, flags, -1, 0) };
    assert_eq!(page as usize, 0x6100_0000);
    // SAFETY: inside that page.
    unsafe { page.cast::<u64>().write(0x600d) };
    let vm = opened(&package);
    vm.load().unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { page.cast::<u64>().read_volatile() }, 0x600d);
    drop(vm);
    // SAFETY: our own page.
    unsafe { libc::munmap(page, PAGE) };
    drop(clean);
}

#[test]
fn a_full_map_and_an_existing_key_are_reported() {
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
    let full = refused(
        set("pairs", "3", 0),
        Status::System,
        &["\"pairs\"", "it is full", "its capacity is 2 entries"],
    );
    assert_eq!(full.errno(), Some(libc::E2BIG));
    let twice = refused(set("pairs", "1", NOEXIST), Status::System, &["\"pairs\"", "the key exists already"]);
    assert_eq!(twice.errno(), Some(libc::EEXIST));
    refused(set("pairs", "3", EXIST), Status::NotFound, &["\"pairs\"", "no such entry"]);
    let words = ["\"places\"", "index is out of range", "3 entries"];
    assert_eq!(refused(set("places", "3", 0), Status::System, &words).errno(), Some(libc::E2BIG));
    drop(vm);
    drop(clean);
}
