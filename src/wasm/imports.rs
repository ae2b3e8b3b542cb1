//! All that a guest can import from this library. WAMR adds the functions of C's `string.h`, `ctype.h` and `stdlib.h`.

use std::ffi::CStr;
use std::sync::OnceLock;

use super::run::Run;
use super::sys::Import;
use super::sys::instance::Guest;
use super::{abi_a, abi_b, libc, wasi};

/// What a guest called: gets its arguments, an i32 in the lower half of each; `None` ends the guest.
pub(super) type Call = fn(&Run<'_>, Guest<'_>, &[u64]) -> Option<u64>;

/// A function and its WAMR signature.
pub(super) type Entry = (&'static CStr, &'static CStr, Call);

/// Functions by the module they are imported from. ABI B was published under `env` first.
const MODULES: [(&CStr, &[&[Entry]]); 4] = [
    (c"callback-wrapper", &[&abi_b::WRAPPER]),
    (c"env", &[&abi_a::IMPORTS, &abi_b::IMPORTS, &libc::IMPORTS]),
    (c"wasi_snapshot_preview1", &[&wasi::IMPORTS]),
    (c"wasm_bpf", &[&abi_b::IMPORTS]),
];

fn entries() -> impl Iterator<Item = (&'static CStr, &'static Entry)> {
    let of_module = |(module, lists): (&'static CStr, &'static [&'static [Entry]])| {
        lists.iter().copied().flatten().map(move |entry| (module, entry))
    };
    MODULES.into_iter().flat_map(of_module)
}

/// The names, for WAMR.
pub(super) fn names() -> &'static [Import] {
    static NAMES: OnceLock<Vec<Import>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let import = |(module, &(name, signature, _)): (&'static CStr, &'static Entry)| Import {
            module,
            name,
            signature,
        };
        entries().map(import).collect()
    })
}

/// Calls function number `index` of `names`.
pub(super) fn call(index: usize, run: &Run<'_>, guest: Guest<'_>, args: &[u64]) -> Option<u64> {
    static CALLS: OnceLock<Vec<Call>> = OnceLock::new();
    let calls = CALLS.get_or_init(|| entries().map(|(_, &(_, _, call))| call).collect());
    calls[index](run, guest, args)
}
