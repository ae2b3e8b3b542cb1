//! The functions of C's library that guests can import: their results, and that they access only the guest's memory.

use eunomia::Status;
use eunomia::vm::WasmOptions;

use crate::fixture::{exit_code, guest, main_of, opened, refused, run, run_module, wat};

#[test]
fn functions_return_what_those_of_c_return() {
    let (result, seen) = run_module(&guest("libc", &["_GNU_SOURCE"], b""));
    assert_eq!(result.unwrap(), 0);
    let wide = format!("1.000|{:127}|%k|%", 5);
    let expected = [
        "   42|42   |00042|+42| 42|007|44|4464",
        "4294967295|ff|FF|0xff|10|5|6|-1|18446744073709551615|9",
        "1.500000|2.35|     3.1|2.5     |1.234568e+04|0.0001|1E+20",
        "x|    y|text|   right|left    |cu|%|0x1000",
        &wide,
        "strlen 0 4",
        "strcmp 0 -1 1",
        "strncmp 0 -1 0",
        "strncasecmp 0 -1",
        "memcmp 0 1",
        "strchr 4 11 1",
        "memchr 6 1",
        "strstr 6 0 1",
        "spans 4 5",
        "strcpy copied pad",
        "strncpy 0 0",
        "memmove -yz234 -yz234",
        "sprintf 7 <12345>",
        "snprintf 7 <12",
        "atoi -12 7 0",
        "strtol 31 63 1295 2147483647",
        "end 4 none 0 0",
        "strtoul 4294967295 4294967295 4294967295",
        "behind 12345678",
        "classes 10101101 qQ",
        "far 0",
        "clock 0 1 1",
        "heap 1 0 twice",
        "realloc kept 1",
        "again 1",
        "too much 1 1",
        "pieces 1 1",
    ];
    assert_eq!(seen.lines, expected);
}

#[test]
fn an_invalid_pointer_is_a_trap() {
    // The memory consists of 2 pages and the heap of 2 MiB. There is a string at address 8.
    const END: u32 = (2 << 16) + (2 << 20);
    let cases = [
        ("strlen", "i32.const -1", 1),
        ("memcpy", "i32.const 0) (i32.const -8) (i32.const 16", 3),
        ("memset", "i32.const 8) (i32.const 0) (i32.const -1", 3),
        ("strncpy", "i32.const 8) (i32.const 8) (i32.const -1", 3),
        ("strtol", &format!("i32.const 8) (i32.const {}) (i32.const 10", END - 3), 3),
        ("sprintf", "i32.const -2) (i32.const 8) (i32.const 8", 3),
    ];
    for (name, args, count) in cases {
        let params = "i32 ".repeat(count);
        let items = format!(
            r#"(import "env" "{name}" (func $f (param {params}) (result i32))) (data (i32.const 8) "text\00")"#
        );
        let (result, _) = run_module(&main_of(&items, &format!("(call $f ({args}))")));
        refused(result, Status::Wasm, &["bpf_main", "out of bounds memory access"]);
    }
    // The last four bytes of the memory.
    let items =
        r#"(import "env" "strtol" (func $f (param i32 i32 i32) (result i32))) (data (i32.const 8) "42\00")"#;
    let body = format!("(call $f (i32.const 8) (i32.const {}) (i32.const 10))", END - 4);
    assert_eq!(exit_code(&main_of(items, &body)), 42);
}

#[test]
fn formatted_strings_end_at_the_end_of_the_memory() {
    // A string without a NUL up to the last byte but one, read as wide characters.
    let end = (2 << 16) + (2 << 20);
    let items = r#"(import "env" "snprintf" (func $f (param i32 i32 i32 i32) (result i32)))
        (data (i32.const 8) "%ls%llf\00")"#;
    let body = format!(
        "(memory.fill (i32.const {}) (i32.const 65) (i32.const 63)) (i32.store (i32.const 64) (i32.const {}))
         (call $f (i32.const 256) (i32.const 128) (i32.const 8) (i32.const 64))",
        end - 64,
        end - 64
    );
    assert_eq!(exit_code(&main_of(items, &body)), 63 + "0.000000".len() as i32);
}

#[test]
fn the_length_of_formatted_text_is_limited() {
    // 16 MB of text, a thousand times.
    let items = format!(
        r#"(import "env" "snprintf" (func $f (param i32 i32 i32 i32) (result i32))) (data (i32.const 8) "{}\00")"#,
        "%s".repeat(1000)
    );
    let body = "(local $i i32) (drop (memory.grow (i32.const 240)))
        (memory.fill (i32.const 65536) (i32.const 65) (i32.const 16000000))
        (loop (i32.store offset=4096 (local.get $i) (i32.const 65536))
          (local.set $i (i32.add (local.get $i) (i32.const 4))) (br_if 0 (i32.lt_u (local.get $i) (i32.const 4000))))
        (call $f (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 4096))";
    assert_eq!(exit_code(&main_of(&items, body)), 1 << 20);
}

#[test]
fn results_of_the_guests_malloc_are_checked() {
    let module = wat(r#"(module (import "env" "strdup" (func $strdup (param i32) (result i32)))
        (import "env" "calloc" (func $calloc (param i32 i32) (result i32)))
        (memory (export "memory") 2) (global $calls (mut i32) (i32.const 0)) (data (i32.const 8) "text\00")
        (func (export "malloc") (param i32) (result i32)
          (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
          (if (result i32) (i32.eq (global.get $calls) (i32.const 1)) (then (i32.const 4096)) (else (i32.const -16))))
        (func (export "free") (param i32))
        (func (export "bpf_main") (param i32 i32) (result i32)
          (i32.add (call $strdup (i32.const 8)) (call $calloc (i32.const 4) (i32.const 1000)))))"#);
    // Such a guest has no heap that the host manages.
    assert_eq!(exit_code(&module), 0);
}

#[test]
fn overwriting_the_heap_does_not_damage_its_list_of_blocks() {
    // Everything after the first page becomes -1 between all calls. The addresses are those of an intact heap.
    let items = r#"(import "env" "malloc" (func $malloc (param i32) (result i32)))
        (import "env" "free" (func $free (param i32)))
        (import "env" "realloc" (func $realloc (param i32 i32) (result i32)))
        (func $ruin (memory.fill (i32.const 65536) (i32.const 255) (i32.sub (i32.shl (memory.size) (i32.const 16))
          (i32.const 65536))))"#;
    let body = "(local $a i32) (local $b i32) (local $i i32) (call $ruin) (local.set $a (call $malloc (i32.const 100)))
        (loop (call $ruin) (local.set $b (call $malloc (i32.const 5000))) (call $ruin)
          (if (i32.eqz (local.get $b)) (then unreachable))
          (local.set $b (call $realloc (local.get $b) (i32.const 9000))) (call $ruin) (call $free (local.get $b))
          (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))
        (call $free (local.get $a)) (i32.eq (call $malloc (i32.const 100)) (local.get $a))";
    assert_eq!(exit_code(&main_of(items, body)), 1);
}

#[test]
fn the_smallest_heap_can_allocate() {
    let items = r#"(import "env" "malloc" (func $malloc (param i32) (result i32)))"#;
    let body = "(i32.and (i32.ne (call $malloc (i32.const 1000)) (i32.const 0))
        (i32.eqz (call $malloc (i32.const 100000))))";
    let vm = opened(&main_of(items, body), WasmOptions::new().heap(1));
    assert_eq!(run(&vm).0.unwrap(), 1);
}
