//! Takes the place of the part `wasm` in a library that is built without the feature `wasm`: modules are recognised, but
//! cannot be opened.

mod config;

pub use config::Config;

use crate::error::{Error, Result, Status};

/// A checked module. There is none in this build.
pub enum Module {}

impl Module {
    /// Returns the error `unsupported`.
    pub fn open(_bytes: &[u8]) -> Result<Module> {
        Err(unsupported())
    }
}

/// Returns the error for everything that needs the feature `wasm`.
pub fn unsupported() -> Error {
    Error::new(Status::Unsupported, "WASM: this build of libeunomia has no WASM support (feature wasm)")
}

/// Returns the version of WAMR: there is none.
pub fn version() -> String {
    "none".to_owned()
}
