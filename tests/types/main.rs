//! The parts `btf`, `types` and `render`: BTF written by hand, by clang and at random; records to JSON and tables; JSON to
//! bytes.

mod blob;
mod btf;
mod clang;
mod encode;
mod event_candidates;
mod format;
mod hostile;
mod json;
mod table;

use std::sync::Arc;

use eunomia::btf::Btf;
use eunomia::render::{Clock, Plan};
use eunomia::types::Type;

/// The time when CLOCK_MONOTONIC started, in nanoseconds since 1970.
const BOOT_TIME: i64 = 1_700_000_000_000_000_000;

/// A clock that started at `BOOT_TIME`.
fn clock() -> Clock {
    Clock::new(|| BOOT_TIME)
}

/// Returns a record as JSON.
fn json(ty: &Arc<Type>, record: &[u8]) -> String {
    let mut out = b"before".to_vec();
    Plan::new(ty).unwrap().json(record, &clock(), &mut out);
    let text = String::from_utf8(out).unwrap();
    text.strip_prefix("before").expect("the previous content").to_string()
}

/// Returns the last type of a blob.
fn last_type(blob: &blob::Blob) -> Arc<Type> {
    let btf = Btf::parse(&blob.bytes()).unwrap();
    Type::from_btf(&btf, btf.len() - 1).unwrap()
}

/// A generator of pseudo-random numbers, the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
