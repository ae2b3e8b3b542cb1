//! What an object contains: sections, BTF, debug information, instructions. Reads and rewrites them; decides nothing.

pub mod btf;
pub mod btf_append;
pub mod dwarf;
pub mod elf;
pub mod instruction;
pub mod libbpf;
pub mod line_info;
pub mod local_variables;
