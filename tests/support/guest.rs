//! A guest that runs one package for as long as the host wants.
#![allow(dead_code, reason = "each test binary uses a part of it")]

/// The ways in which a guest receives events, some of which it drops.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// The guest receives events as JSON, one at a time, and drops every fifth.
    Single,
    /// The guest receives batches, and drops the first event of each.
    Batch,
}

/// Builds a guest that runs the package. It prints a line once the package is attached, and then waits for events.
pub fn guest(package: &[u8], handler: Handler) -> Vec<u8> {
    let bytes: String = package.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let (place, len) = (1024, package.len());
    let pages = (place + len) / 65536 + 1;
    let function = match handler {
        Handler::Single => {
            r#"(export "process_event") (param i32 i32 i32) (result i32)
            (global.set $count (i32.rem_u (i32.add (global.get $count) (i32.const 1)) (i32.const 5)))
            (i32.sub (i32.const 0) (i32.eqz (global.get $count)))"#
        }
        Handler::Batch => {
            r#"(export "process_events") (param i32 i32 i32) (result i32)
            (i32.store offset=4 (local.get 0) (i32.const -1)) (i32.const 0)"#
        }
    };
    let text = format!(
        r#"(module (import "env" "create_bpf" (func $create (param i32 i32) (result i32)))
           (import "env" "run_bpf" (func $run (param i32) (result i32)))
           (import "env" "wait_and_poll_bpf" (func $wait (param i32) (result i32)))
           (import "env" "puts" (func $puts (param i32) (result i32)))
           (memory (export "memory") {pages}) (global $count (mut i32) (i32.const 0))
           (data (i32.const 8) "ready\00") (data (i32.const {place}) "{bytes}")
           (func (export "bpf_main") (param i32 i32) (result i32) (local i32)
             (local.set 2 (call $create (i32.const {place}) (i32.const {len})))
             (if (i32.lt_s (call $run (local.get 2)) (i32.const 0)) (then (unreachable)))
             (drop (call $puts (i32.const 8))) (call $wait (local.get 2)))
           (func {function}))"#
    );
    wat::parse_str(text).unwrap()
}
