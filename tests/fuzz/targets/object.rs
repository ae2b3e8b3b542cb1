//! Untrusted ELF objects, up to the moment before the kernel gets them: our reader, then libelf and libbpf.
#![no_main]

use eunomia::{Options, Vm};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let vm = Vm::new(Options::new()).expect("a vm");
    if vm.open_object(data, None).is_err() {
        return;
    }
    let _ = vm.describe();
    let _ = vm.args_help();
    for index in 0..vm.map_count().unwrap_or(0) {
        let _ = vm.map_at(index);
    }
    for index in 0..vm.prog_count().unwrap_or(0) {
        let _ = vm.prog_at(index);
    }
});
