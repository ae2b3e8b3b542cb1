//! Packages that are refused before load, and sizes that the host sets.

use eunomia::error::{Hint, Subject};
use eunomia::{Error, Kind, Options, Status, Vm};

use crate::needs_root;
use crate::support::{self, kernel::Watch};

const MIB: u64 = 1 << 20;

/// Two arrays of 40 MiB, one ring buffer of 4 KiB.
const ARRAYS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, u32); __type(value, u64); __uint(max_entries, 5242880); }
first SEC(".maps"), second SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
u64 counted = 0;
SEC("tp/syscalls/sys_enter_getpgid")
int on_enter(void *ctx)
{
    u32 key = 0;
    u64 *value = bpf_map_lookup_elem(&first, &key);
    if (value)
        counted += *value;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

fn vm(max_kernel_memory: u64, package: &[u8]) -> Vm {
    let vm = Vm::new(Options::new().max_kernel_memory(max_kernel_memory)).unwrap();
    vm.open(package, Kind::Json).unwrap();
    vm
}

#[track_caller]
fn refused(vm: &Vm, map: &str) -> Error {
    let watch = Watch::new();
    let error = vm.load().unwrap_err();
    assert_eq!(error.status(), Status::NoMem, "{error}");
    assert_eq!(error.subject(), Some(&Subject::Map(map.into())), "{error}");
    assert_eq!(error.hint(), Some(&Hint::KernelMemory), "{error}");
    watch.kernel_is_clean();
    error
}

#[test]
fn a_package_beyond_the_limit_is_refused_with_its_largest_map_and_the_sum() {
    needs_root!();
    let package = support::package(ARRAYS);
    let vm = vm(64 * MIB, &package);
    let error = refused(&vm, "first");
    assert_eq!(
        error.to_string(),
        "map \"first\": takes 41 MiB of kernel memory, 81 MiB in total; the limit is 64 MiB; raise max_kernel_memory"
    );
    // The package stays open, and a smaller one is accepted.
    assert_eq!(refused(&vm, "first").to_string(), error.to_string());
    vm.map_set_max_entries("first", 1000).unwrap();
    vm.load().unwrap();
    assert_eq!(vm.map_find("first").unwrap().max_entries, 1000);
}

#[test]
fn the_host_sets_the_limit() {
    needs_root!();
    let package = support::package(ARRAYS);
    vm(100 * MIB, &package).load().unwrap();
    refused(&vm(1, &package), "first");
    vm(u64::MAX, &package).load().unwrap();
    vm(0, &package).load().unwrap();
}

/// The array is larger than the memory of most machines. The kernel would allocate it page by page.
#[test]
fn a_per_cpu_array_of_all_memory_is_refused_by_default() {
    needs_root!();
    let source = ARRAYS.replace("__uint(max_entries, 5242880)", "__uint(max_entries, 946219991)");
    let source = source.replace("BPF_MAP_TYPE_ARRAY", "BPF_MAP_TYPE_PERCPU_ARRAY");
    let package = support::package(&source);
    refused(&vm(0, &package), "first");
}

#[test]
fn programs_are_counted() {
    needs_root!();
    let package = support::package(ARRAYS);
    let vm = vm(30_000, &package);
    for map in ["first", "second", "ring"] {
        vm.map_set_max_entries(map, 1).unwrap();
    }
    let error = vm.load().unwrap_err();
    assert_eq!((error.status(), error.subject()), (Status::NoMem, None), "{error}");
    assert!(error.message().starts_with("programs: takes 1 MiB"), "{error}");
}

#[test]
fn the_description_has_the_bytes_of_each_map() {
    needs_root!();
    let vm = vm(0, &support::package(ARRAYS));
    let description: serde_json::Value = serde_json::from_str(&vm.describe().unwrap()).unwrap();
    for map in description["maps"].as_array().unwrap() {
        let name = map["name"].as_str().unwrap();
        assert_eq!(map["bytes"].as_u64().unwrap(), vm.map_find(name).unwrap().bytes, "{name}");
    }
    assert!(vm.map_find("second").unwrap().bytes >= 40 * MIB);
    let all: u64 =
        description["maps"].as_array().unwrap().iter().map(|map| map["bytes"].as_u64().unwrap()).sum();
    let sum = description["kernel_memory"].as_u64().unwrap();
    assert!(all + 16384 < sum && sum < all + MIB, "programs and types too: {sum} and {all}");
}

#[test]
fn a_size_set_by_the_host_survives_a_failed_load() {
    needs_root!();
    let source = format!(
        "{ARRAYS}\nSEC(\"tp/syscalls/sys_exit_getpgid\")\nint rejected(void *ctx)\n{{\n    return *(int *)(long)bpf_get_prandom_u32();\n}}\n"
    );
    let vm = vm(0, &support::package(&source));
    vm.map_set_max_entries("first", 10).unwrap();
    vm.map_set_max_entries("ring", 5000).unwrap();
    assert_eq!(vm.map_find("ring").unwrap().max_entries, 8192, "whole pages, a power of two");
    assert_eq!(vm.load().unwrap_err().status(), Status::Verifier);
    vm.prog_set_autoload("rejected", false).unwrap();
    vm.load().unwrap();
    let (first, ring) = (vm.map_find("first").unwrap(), vm.map_find("ring").unwrap());
    assert_eq!((first.max_entries, ring.max_entries), (10, 8192));
    vm.map_set("first", &9u32.to_ne_bytes(), &[0; 8], 0).unwrap();
    assert!(vm.map_set("first", &10u32.to_ne_bytes(), &[0; 8], 0).is_err());
}

#[test]
fn invalid_sizes_are_refused_with_the_map() {
    needs_root!();
    let vm = vm(0, &support::package(ARRAYS));
    let fails = |map: &str, count: u32, status: Status| {
        let error = vm.map_set_max_entries(map, count).unwrap_err();
        assert_eq!(
            (error.status(), error.subject().cloned()),
            (status, Some(Subject::Map(map.into()))),
            "{error}"
        );
    };
    fails("none", 1, Status::NotFound);
    fails("first", 0, Status::Inval);
    let data = (0..vm.map_count().unwrap()).map(|i| vm.map_at(i).unwrap().name);
    let data =
        data.map(|name| name.to_string_lossy().into_owned()).find(|name| name.contains(".bss")).unwrap();
    fails(&data, 2, Status::Inval);
    vm.load().unwrap();
    fails("first", 1, Status::State);
}

#[test]
fn arguments_of_a_package_set_sizes_of_maps() {
    needs_root!();
    let source = ARRAYS.replace("struct { __uint(type, BPF_MAP_TYPE_RINGBUF)", "/// Bytes for events\n/// @cmdarg {\"long\": \"buffer\", \"default\": 16384}\nstruct { __uint(type, BPF_MAP_TYPE_RINGBUF)");
    let package = support::package(&source);
    let size = |argv: &[&str]| {
        let vm = vm(u64::MAX, &package);
        vm.args_set(argv).map(|_| {
            vm.load().unwrap();
            vm.map_find("ring").unwrap().max_entries
        })
    };
    assert_eq!(size(&["tool"]).unwrap(), 16384);
    assert_eq!(size(&["tool", "--buffer", "65536"]).unwrap(), 65536);
    for wrong in ["many", "-1", "0", "4294967296"] {
        let error = size(&["tool", "--buffer", wrong]).unwrap_err();
        assert_eq!(
            (error.status(), error.subject().cloned()),
            (Status::Inval, Some(Subject::Map("ring".into()))),
            "{error}"
        );
    }
    assert!(
        vm(0, &package)
            .args_help()
            .unwrap()
            .contains("--buffer <max_entries>  Bytes for events [default: 16384]")
    );
}

#[test]
fn a_program_that_allocates_objects_requires_no_limit() {
    needs_root!();
    let source = "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n\
        extern void *bpf_obj_new_impl(u64 type, void *meta) __ksym;\n\
        SEC(\"tp_btf/sys_enter\") int p(void *ctx) { return bpf_obj_new_impl(1, 0) != 0; }\n\
        char LICENSE[] SEC(\"license\") = \"GPL\";\n";
    let package = support::package(source);
    let error = vm(0, &package).load().unwrap_err();
    assert_eq!((error.status(), error.hint()), (Status::NoMem, Some(&Hint::NoKernelMemoryLimit)), "{error}");
    // Without a limit the verifier decides.
    let error = vm(u64::MAX, &package).load().unwrap_err();
    assert_ne!(error.status(), Status::NoMem, "{error}");
}
