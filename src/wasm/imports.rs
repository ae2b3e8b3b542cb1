//! The functions that guests can import, by module and name.

use std::ffi::{CStr, CString};
use std::sync::OnceLock;

use super::call::{Args, Call, Table};
use super::state::State;
use super::sys::guest::Guest;
use super::sys::runtime::Import;
use super::{ewasm, libc, wasi, wasm_bpf};

const WASI: &CStr = c"wasi_snapshot_preview1";

/// Functions by the module that they are imported from. Early modules import those of wasm-bpf from `env`.
const MODULES: [(&CStr, &[Table]); 4] = [
    (c"callback-wrapper", &[wasm_bpf::GO_IMPORTS]),
    (c"env", &[ewasm::IMPORTS, wasm_bpf::IMPORTS, libc::IMPORTS]),
    (WASI, &[wasi::IMPORTS]),
    (c"wasm_bpf", &[wasm_bpf::IMPORTS]),
];

/// The names, for WAMR, and the functions of the same index.
fn all() -> &'static (Vec<Import>, Vec<Call>) {
    static ALL: OnceLock<(Vec<Import>, Vec<Call>)> = OnceLock::new();
    ALL.get_or_init(|| {
        let (mut names, mut calls) = (Vec::new(), Vec::new());
        let mut add = |module, declaration: &str, call| {
            let (name, signature) = declaration.split_at(declaration.find('(').unwrap_or(declaration.len()));
            let [name, signature] = [name, signature].map(|part| CString::new(part).unwrap_or_default());
            names.push(Import { module, name, signature });
            calls.push(call);
        };
        for (module, tables) in MODULES {
            let entries = tables.iter().flat_map(|(names, calls)| names.split(' ').zip(*calls));
            entries.for_each(|(declaration, call)| add(module, declaration, *call));
        }
        wasi::UNSUPPORTED.split(' ').for_each(|declaration| add(WASI, declaration, wasi::unsupported));
        (names, calls)
    })
}

/// Returns the names, for WAMR.
pub fn names() -> &'static [Import] {
    &all().0
}

/// Calls the function with the index `index` in `names`.
pub fn call(index: usize, state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    all().1[index](state, guest, args)
}
