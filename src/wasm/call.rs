//! Functions that guests can import, and how tables of them are written.

use super::state::State;
use super::sys::guest::{ARGS, Guest};

/// The arguments of a call; an i32 is in the lower half of its element.
pub type Args = [u64; ARGS];

/// A function that a guest can import. `None` ends the guest: for the reason stored in the state, or else with a trap
/// for an invalid pointer.
pub type Call = fn(&State<'_>, Guest<'_>, &Args) -> Option<u64>;

/// The names of functions, each followed by its WAMR signature and a space, as in `puts(i)i `, and the functions. All
/// names are one string, because a pointer to a string takes 40 bytes more for each.
pub type Table = (&'static str, &'static [Call]);

/// Makes a [`Table`] from pairs of name and function.
macro_rules! table {
    ($(($name:literal, $call:expr)),* $(,)?) => {{
        const CALLS: &[Call] = &[$($call),*];
        (concat!($($name, " "),*), CALLS)
    }};
}
pub(super) use table;
