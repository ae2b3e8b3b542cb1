//! Guests that call each import with any arguments, and malformed modules.
#![no_main]

#[path = "../../wasm/script.rs"]
#[allow(missing_docs)]
mod script;

use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use eunomia::vm::WasmOptions;
use eunomia::{Flow, Format, Kind, Options, Vm};
use fuzz::{compiled, descriptors};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use script::{Choices, Guests};

static GUESTS: LazyLock<Guests> =
    LazyLock::new(|| Guests::new(&compiled("getpgid/package.json"), &compiled("getpgid/getpgid.bpf.o")));

/// The input, followed by numbers derived from it (xorshift).
struct Input<'a>(Unstructured<'a>, u64);

impl Choices for Input<'_> {
    fn next(&mut self) -> u64 {
        if self.0.is_empty() {
            self.1 ^= self.1 << 13;
            self.1 ^= self.1 >> 7;
            self.1 ^= self.1 << 17;
            return self.1 >> 16;
        }
        let next = self.0.arbitrary::<u16>().unwrap_or(0).into();
        self.1 = self.1.rotate_left(5) ^ next;
        next
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let module = match kind % 4 {
        0 => data.to_vec(),
        _ => GUESTS.guest(&mut Input(Unstructured::new(data), 1)),
    };
    let before = descriptors();
    let heap = [0, 4096, 65536][usize::from(kind / 4 % 3)];
    let wasm = WasmOptions::new().heap(heap).dirs(["/sys/fs/cgroup"]);
    let vm = Vm::new(Options::new().wasm(wasm)).expect("a vm");
    if vm.open(&module, Kind::Wasm).is_ok() {
        run(&vm);
    }
    drop(vm);
    assert_eq!(descriptors(), before, "descriptors are left");
});

/// Runs a guest, and stops one that does not end by itself.
fn run(vm: &Vm) {
    let (done, waiting) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(Duration::from_millis(10)) == Err(mpsc::RecvTimeoutError::Timeout) {
                vm.stop();
            }
        });
        let _ = vm.wasm_run(&["guest", "argument"], Format::Json, |_: &eunomia::Event<'_>| {
            // SAFETY: no pointers. The call triggers an event of the package.
            unsafe { libc::getpgid(0) };
            Flow::Continue
        });
        drop(done);
    });
}
