//! The commands: compile (once or with `--watch`), `check`, `gen-wasm-skel` and `build-wasm`.

pub mod check;
pub mod wasm;
pub mod watch;
