//! All that a guest can import.

use std::ffi::{CStr, CString};
use std::sync::OnceLock;

use super::run::Run;
use super::sys::Import;
use super::sys::instance::{ARGS, Guest};
use super::{ewasm, libc, wasi, wasm_bpf};

/// The arguments of a call, an i32 in the lower half of each.
pub(super) type Args = [u64; ARGS];

/// What a guest called. `None` ends the guest, with a trap for a wrong pointer if no other reason has been noted.
pub(super) type Call = fn(&Run<'_>, Guest<'_>, &Args) -> Option<u64>;

/// The names of functions, each with its WAMR signature behind it, as in `puts(i)i`, and a blank behind that; then the
/// functions. One text for all, for each pointer to a text of its own takes 40 bytes more.
pub(super) type Table = (&'static str, &'static [Call]);

/// Makes a [`Table`] of pairs of name and function.
macro_rules! table {
    ($(($name:literal, $call:expr)),* $(,)?) => {{
        const CALLS: &[Call] = &[$($call),*];
        (concat!($($name, " "),*), CALLS)
    }};
}
pub(super) use table;

const WASI: &CStr = c"wasi_snapshot_preview1";

/// Functions by the module they are imported from. ABI B was published under `env` first.
const MODULES: [(&CStr, &[Table]); 4] = [
    (c"callback-wrapper", &[wasm_bpf::WRAPPER]),
    (c"env", &[ewasm::IMPORTS, wasm_bpf::IMPORTS, libc::IMPORTS]),
    (WASI, &[wasi::IMPORTS]),
    (c"wasm_bpf", &[wasm_bpf::IMPORTS]),
];

/// The names, for WAMR, and what they stand for.
fn all() -> &'static (Vec<Import>, Vec<Call>) {
    static ALL: OnceLock<(Vec<Import>, Vec<Call>)> = OnceLock::new();
    ALL.get_or_init(|| {
        let (mut names, mut calls) = (Vec::new(), Vec::new());
        let mut add = |module, text: &str, call| {
            let (name, signature) = text.split_at(text.find('(').unwrap_or(text.len()));
            let [name, signature] = [name, signature].map(|part| CString::new(part).unwrap_or_default());
            names.push(Import { module, name, signature });
            calls.push(call);
        };
        for (module, lists) in MODULES {
            let entries = lists.iter().flat_map(|(texts, calls)| texts.split(' ').zip(*calls));
            entries.for_each(|(text, call)| add(module, text, *call));
        }
        wasi::MISSING.split(' ').for_each(|text| add(WASI, text, wasi::missing));
        (names, calls)
    })
}

/// The names, for WAMR.
pub(super) fn names() -> &'static [Import] {
    &all().0
}

/// Calls function number `index` of `names`.
pub(super) fn call(index: usize, run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    all().1[index](run, guest, args)
}
