//! The only error of this crate: a name or a condition does not fit the type.

use std::fmt::{self, Display, Formatter};

/// A field, a value or a condition does not fit the type of the records. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

/// `Result` with that error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a one-line message.
    pub fn new(text: impl Display) -> Error {
        Error(text.to_string())
    }

    /// The message.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<eunomia::Error> for Error {
    fn from(error: eunomia::Error) -> Error {
        Error::new(error.message())
    }
}
