//! What ends a run of the compiler.

/// Why nothing was made.
#[derive(Debug)]
pub enum Error {
    /// One line for the user.
    Text(String),
    /// clang has said everything.
    Diagnosed,
}

/// `Result` with the compiler's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a file operation: the thing, then the reason.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Error {
        Error::Text(format!("{what}: {}", Error::reason(error)))
    }

    /// The reason without its number.
    pub fn reason(error: &std::io::Error) -> String {
        let reason = error.to_string();
        reason.split(" (os error").next().unwrap_or(&reason).to_string()
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
