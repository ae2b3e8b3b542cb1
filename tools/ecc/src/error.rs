//! The errors that end a run of the compiler.

/// The reason why a run failed.
#[derive(Debug)]
pub enum Error {
    /// One line for the user.
    Text(String),
    /// The reason has already been printed, for example by clang.
    Diagnosed,
}

/// A `Result` with the compiler's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a file operation: what failed, then the reason.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Error {
        Error::Text(format!("{what}: {}", Error::reason(error)))
    }

    /// The reason without the error number that std adds.
    pub fn reason(error: &std::io::Error) -> String {
        eunomia::internal::without_number(&error.to_string()).to_owned()
    }
}

impl From<String> for Error {
    fn from(text: String) -> Error {
        Error::Text(text)
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Error {
        Error::Text(text.into())
    }
}
