;; Prints its arguments and ends with 5.
(module
  (import "env" "printf" (func $printf (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "hello %s\0a\00")
  (func (export "bpf_main") (param $args i32) (param i32) (result i32)
    (i32.store (i32.const 64) (local.get $args))
    (drop (call $printf (i32.const 8) (i32.const 64)))
    (i32.const 5)))
