;; Never ends by itself.
(module
  (memory (export "memory") 1)
  (func (export "bpf_main") (param i32 i32) (result i32)
    (loop (br 0))
    (i32.const 0)))
