//! Types of functions as strings in WAMR's notation: `i` is an i32, `I` an i64, `f` and `F` are floats, as in `(Ii)i`.

use std::ops::RangeInclusive;

use wamr_sys as w;

/// The end of an error message about the type of a callback.
pub const CALLBACK_TYPE: &str =
    "but a callback takes context, address and length, each i32 or i64, and returns one number or nothing";

/// Writes a type as a string.
pub(super) fn signature(
    params: impl Iterator<Item = w::wasm_valkind_t>,
    results: impl Iterator<Item = w::wasm_valkind_t>,
) -> String {
    let letter = |kind: w::wasm_valkind_t| match u32::from(kind) {
        w::WASM_I32 => 'i',
        w::WASM_I64 => 'I',
        w::WASM_F32 => 'f',
        w::WASM_F64 => 'F',
        _ => 'r',
    };
    let (params, results): (String, String) = (params.map(letter).collect(), results.map(letter).collect());
    format!("({params}){results}")
}

/// Splits a type into its parameters and its results.
pub(super) fn split(signature: &str) -> (&str, &str) {
    signature.trim_start_matches('(').split_once(')').unwrap_or_default()
}

/// Whether the host can call a function of this type: the range `count` contains its number of parameters, each of them is
/// an i32 or i64, and it returns one number or nothing.
pub fn is_callable(signature: &str, count: RangeInclusive<usize>) -> bool {
    let (params, result) = split(signature);
    let are_integers = params.bytes().all(|letter| letter.eq_ignore_ascii_case(&b'i'));
    count.contains(&params.len()) && are_integers && result.len() <= 1 && result != "r"
}
