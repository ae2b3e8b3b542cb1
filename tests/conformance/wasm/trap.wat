;; Traps.
(module
  (memory (export "memory") 1)
  (func $bpf_main (export "bpf_main") (param i32 i32) (result i32)
    (unreachable)))
