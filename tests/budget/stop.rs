//! Stops of a load: between two maps, between two programs, and before it begins.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use eunomia::{Kind, Level, Options, Status, Vm};

use crate::needs_root;
use crate::support::{self, kernel::Watch};

/// Two tests may have their programs attached at the same time, and the kernel accepts 64 programs at a tracepoint.
const PROGRAMS: usize = 20;

/// Maps, and programs whose verification takes a while.
fn package() -> Vec<u8> {
    let mut source = String::from("#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n");
    for index in 0..PROGRAMS {
        let _ = write!(
            source,
            "struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, u32); __type(value, u64); __uint(max_entries, 1); }} \
             map_{index} SEC(\".maps\");\n\
             SEC(\"tp/syscalls/sys_enter_getpgid\")\nint prog_{index}(void *ctx)\n{{\n    u32 key = 0;\n    \
             return bpf_map_lookup_elem(&map_{index}, &key) != 0;\n}}\n"
        );
    }
    support::package(&(source + "char LICENSE[] SEC(\"license\") = \"GPL\";\n"))
}

/// Loads, stops at the `nth` message that contains `words`, and returns the number of such messages.
fn stopped_at(words: &'static str, nth: usize) -> (Vm, usize) {
    // The log is written while the vm is busy; `stop` may be called then.
    let cell: Arc<OnceLock<usize>> = Arc::default();
    let count = Arc::new(AtomicUsize::new(0));
    let (seen, vm_of) = (Arc::clone(&count), Arc::clone(&cell));
    let log = move |_: Level, line: &str| {
        if line.contains(words) && seen.fetch_add(1, Ordering::Relaxed) + 1 == nth {
            let at = *vm_of.get().unwrap() as *const Vm;
            // SAFETY: the vm is in a caller of this function.
            unsafe { &*at }.stop();
        }
    };
    let options = Options::new().log(log).log_level(Level::Debug);
    let vm = Vm::new(options).unwrap();
    vm.open(&package(), Kind::Json).unwrap();
    cell.set(&raw const vm as usize).unwrap();
    let watch = Watch::new();
    let error = vm.load().unwrap_err();
    assert_eq!((error.status(), error.message()), (Status::Stopped, "stop was called"));
    watch.kernel_is_clean();
    let count = count.load(Ordering::Relaxed);
    // The stop is reported once. The vm has moved since, so the log function must not stop it again.
    (vm, count)
}

#[test]
fn stop_ends_a_load_between_two_maps() {
    needs_root!();
    let (vm, made) = stopped_at("': created successfully", 3);
    assert_eq!(made, 3, "maps that were made");
    vm.load().unwrap();
}

#[test]
fn stop_ends_a_load_between_two_programs() {
    needs_root!();
    let (vm, verified) = stopped_at("BEGIN PROG LOAD LOG", 5);
    assert_eq!(verified, 5, "programs that were verified");
    vm.attach().unwrap();
    assert!(vm.prog_find("prog_19").unwrap().loaded);
}

#[test]
fn stop_before_load_ends_it_and_is_reported_once() {
    needs_root!();
    let vm = support::opened(&package());
    vm.stop();
    assert_eq!(vm.attach().unwrap_err().status(), Status::Stopped);
    vm.attach().unwrap();
}
