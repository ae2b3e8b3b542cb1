//! The content of objects: sections, BTF, debug information, instructions. This part reads and rewrites them, and makes no
//! decisions.

pub mod btf;
pub mod btf_append;
pub mod dwarf;
pub mod elf;
pub mod instruction;
pub mod libbpf;
pub mod line_info;
pub mod local_variables;
