//! Nanoseconds per decoded event; the best of many short rounds, because the machine may have other load.
//! `cargo bench --bench types`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use eunomia::render::{Clock, Plan};
use eunomia::types::Type;

const EVENTS: u32 = 20_000;
const ROUNDS: usize = 150;

fn main() {
    // struct { u32 pid, tpid; int sig, ret; char comm[16]; }
    let members =
        [("pid", "u32", "i32"), ("tpid", "u32", "i32"), ("sig", "int", "i32"), ("ret", "int", "i32")];
    let mut members: Vec<_> =
        (0..).zip(members).map(|(i, (name, c, llvm))| (name, c, llvm, 32 * i)).collect();
    members.push(("comm", "char [16]", "[16 x i8]", 128));
    let signal = Type::from_c_members("event", 32, &members).unwrap();
    let mut record = [1234u32, 56789, 15, 0].map(u32::to_le_bytes).concat();
    record.extend(b"systemd-journal\0");
    report("json, 5 fields, 32 bytes", &signal, &record, json);
    report("text, 5 fields, 32 bytes", &signal, &record, |plan, record, out| {
        plan.text_row(b"12:34:56", record, &Clock::new(|| 0), out)
    });

    members.push(("path", "char [256]", "[256 x i8]", 256));
    let opened = Type::from_c_members("event", 288, &members).unwrap();
    record.extend(b"/usr/lib/x86_64-linux-gnu/libc.so.6");
    record.resize(288, 0);
    report("json, with a path of 35 in char[256]", &opened, &record, json);

    let slots = Type::from_c_members("hist", 104, &[("slots", "u32 [26]", "[26 x i32]", 0)]).unwrap();
    report("json, u32[26]", &slots, &[7; 104], json);

    let float = Type::from_c_members("f", 8, &[("value", "double", "double", 0)]).unwrap();
    report("json, double", &float, &0.1f64.to_le_bytes(), json);
}

fn json(plan: &Plan, record: &[u8], out: &mut Vec<u8>) {
    plan.json(record, &Clock::new(|| 0), out);
}

fn report(what: &str, ty: &Arc<Type>, record: &[u8], write: impl Fn(&Plan, &[u8], &mut Vec<u8>)) {
    let plan = Plan::new(ty).unwrap();
    let mut out = Vec::with_capacity(4096);
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..EVENTS {
            out.clear();
            write(&plan, black_box(record), &mut out);
            black_box(&out);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(EVENTS));
    }
    println!("{what:<40} {best:7.1} ns  {:4} bytes", out.len());
}
