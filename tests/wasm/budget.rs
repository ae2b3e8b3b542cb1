//! The limit of kernel memory applies to everything that a guest has loaded.

use std::path::{Path, PathBuf};

use eunomia::{Format, Kind, Options, Vm};

use crate::fixture::guest;
use crate::needs_root;
use crate::support::{self, kernel::Watch};

/// An array of 8 MiB.
const ARRAY: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, u32); __type(value, u64); __uint(max_entries, 1048576); }
large SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_enter(void *ctx)
{
    u32 key = 0;
    u64 *value = bpf_map_lookup_elem(&large, &key);
    return value && *value;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// Returns how often the guest could load in each of two runs, with a limit of 30 MiB.
fn counts(module: &[u8]) -> [i32; 2] {
    counts_with_pins(module, None)
}

/// As `loads`, with a directory for pinned maps.
fn counts_with_pins(module: &[u8], pins: Option<&Path>) -> [i32; 2] {
    let options = Options::new().max_kernel_memory(30 << 20);
    let (vm, log) = support::vm_with(match pins {
        Some(pins) => options.pin_path(pins),
        None => options,
    });
    vm.open(module, Kind::Wasm).unwrap();
    let run = |vm: &Vm| vm.wasm_run(&["guest"], Format::Json, |_: &eunomia::Event| eunomia::Flow::Continue);
    let counts = [run(&vm).unwrap(), run(&vm).unwrap()];
    let log = log.lock().unwrap().join("\n");
    let map = if pins.is_some() { "pinned_map_d" } else { "large" };
    let refused = &format!("map {map:?}: takes 9 MiB of kernel memory, 33 MiB in total; the limit is 30 MiB");
    assert!(counts[0] >= 20 || log.contains(refused), "{log}");
    counts
}

#[test]
fn packages_of_a_guest_count_together() {
    needs_root!();
    let watch = Watch::new();
    assert_eq!(counts(&guest("greedy", &[], &support::package(ARRAY))), [3, 3]);
    watch.kernel_is_clean();
}

#[test]
fn objects_of_a_guest_count_together_until_they_are_closed() {
    needs_root!();
    let watch = Watch::new();
    let object = std::fs::read(support::compile(ARRAY).path().join("test.bpf.o")).unwrap();
    assert_eq!(counts(&guest("greedy", &["OBJECTS"], &object)), [3, 3]);
    assert_eq!(counts(&guest("greedy", &["OBJECTS", "CLOSE"], &object)), [20, 20]);
    watch.kernel_is_clean();
}

/// A directory for pins, removed with its contents.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn pinned_maps_of_a_guest_count_once_and_until_the_vm_ends() {
    needs_root!();
    let source = ARRAY.replace("large", "pinned_map_a").replace(
        "__uint(max_entries, 1048576);",
        "__uint(max_entries, 1048576); __uint(pinning, LIBBPF_PIN_BY_NAME);",
    );
    let object = std::fs::read(support::compile(&source).path().join("test.bpf.o")).unwrap();
    let pins = Pins(format!("/sys/fs/bpf/eunomia-guest-{}", std::process::id()).into());
    // The pinned maps of closed objects still use memory. In the second run they exist already.
    let other = guest("greedy", &["OBJECTS", "CLOSE", "RENAME"], &object);
    assert_eq!(counts_with_pins(&other, Some(&pins.0)), [3, 3]);
    // A map that exists already is counted once.
    let same = guest("greedy", &["OBJECTS", "CLOSE"], &object);
    assert_eq!(counts_with_pins(&same, Some(&pins.0)), [20, 20]);
}
