//! Guests that call everything they can import in random order with random arguments, also when the host calls them. The
//! host must survive, and nothing of the guests may remain.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use eunomia::vm::WasmOptions;
use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Status, Vm};

use crate::fixture::{call, calls, object};
use crate::needs_root;
use crate::script::{Choices, Guests};
use crate::support::child;
use crate::support::kernel::{Watch, descriptors};

/// A generator of reproducible pseudo-random numbers (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64, round: u64) -> Random {
        Random((seed << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
}

impl Choices for Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }
}

/// The results of all runs.
#[derive(Debug, Default)]
struct Sum {
    /// Steps that were made: calls of imports, mostly.
    steps: u64,
    trapped: u64,
    stopped: u64,
    /// The longest time from `stop` to the end of a run.
    slowest: Duration,
}

/// Runs a guest. Stops it if it does not end by itself.
fn run(vm: &Vm, sum: &mut Sum) {
    let (done, waiting) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let stopper = scope.spawn(move || {
            let ended = waiting.recv_timeout(Duration::from_millis(100)) != Err(RecvTimeoutError::Timeout);
            (!ended).then(|| {
                vm.stop();
                Instant::now()
            })
        });
        let result = vm.wasm_run(&["guest", "argument"], Format::Json, |event: &Event<'_>| {
            if event.kind == EventKind::Output && event.data.is_empty() {
                sum.steps += 1;
            } else {
                call(2);
            }
            Flow::Continue
        });
        let end = Instant::now();
        drop(done);
        sum.trapped += u64::from(result.is_err_and(|error| error.status() == Status::Wasm));
        if let Some(stop) = stopper.join().expect("it only waits") {
            sum.stopped += 1;
            sum.slowest = sum.slowest.max(end.saturating_duration_since(stop));
        }
    });
}

/// Runs in a process of its own, which must survive. `FUZZ_SEED` and `FUZZ_ROUNDS` set the seed and the number of rounds.
#[test]
fn guests_that_make_random_calls_do_no_harm() {
    needs_root!();
    const TEST: &str = "fuzz::guests_that_make_random_calls_do_no_harm";
    let Some(folder) = child::folder() else {
        let folder = tempfile::tempdir().unwrap();
        return child::run(TEST, &[], folder.path());
    };
    let number = |name: &str, or: u64| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let (seed, rounds) = (number("FUZZ_SEED", 1), number("FUZZ_ROUNDS", 300));
    let files = folder.join("files");
    std::fs::create_dir_all(files.join("sub")).unwrap();
    std::fs::write(files.join("sub/file"), "content").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", files.join("link")).unwrap();
    let guests = Guests::new(calls(1).as_bytes(), &object(1));
    let watch = Watch::new();
    let before = descriptors().len();
    let mut sum = Sum::default();
    for round in 0..rounds {
        // SAFETY: no pointers. A round that does not end ends the process.
        unsafe { libc::alarm(30) };
        let mut random = Random::new(seed, round);
        let module = guests.guest(&mut random);
        std::fs::write(folder.join("last.wasm"), &module).unwrap();
        let wasm = WasmOptions::new().dirs([files.clone()]).heap(random.of(&[0, 0, 4096, 65536]));
        let vm = Vm::new(Options::new().wasm(wasm)).unwrap();
        vm.open(&module, Kind::Wasm).unwrap_or_else(|e| panic!("round {round}: {e}"));
        run(&vm, &mut sum);
        drop(vm);
        assert_eq!(descriptors().len(), before, "seed {seed}, round {round} leaves descriptors");
    }
    println!("{rounds} rounds: {sum:?}");
    assert!(sum.steps > rounds && sum.trapped < rounds, "{sum:?}");
    watch.is_clean();
}
