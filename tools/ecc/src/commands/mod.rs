//! The commands: compile (once or with `--watch`), `check`, `gen-wasm-skel` and `build-wasm`.

pub mod check;
pub mod compile;
pub mod wasm;
mod watch;
