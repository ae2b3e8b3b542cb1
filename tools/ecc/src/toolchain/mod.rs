//! clang, and the headers that sources can include.

pub mod bpf_headers;
pub mod cache;
pub mod clang;
pub mod guest_headers;
pub mod machine;
mod removed_members;
pub mod shell_words;
pub mod vmlinux;
pub mod wasi;
