//! Takes the place of `wasm.rs` in a library that is built without the feature `wasm`.

use super::event::{Event, Flow, Format};
use super::replace::Replaced;
use super::state::Vm;
use crate::error::Result;
use crate::wasm::unsupported;

impl Vm {
    /// Returns an error with the status `Unsupported`: this build has no WASM support.
    pub fn wasm_run(
        &self,
        _argv: &[&str],
        _format: Format,
        _callback: impl FnMut(&Event<'_>) -> Flow,
    ) -> Result<i32> {
        Err(unsupported())
    }

    /// Returns the same error.
    pub(super) fn replace_guest(&self, _data: &[u8]) -> Result<Replaced> {
        Err(unsupported())
    }
}
