//! Questions to the user: names and passwords.

use std::io::{IsTerminal, Write};

use crate::error::{Code, Failure, Result};

/// Asks on the terminal and reads a line from standard input.
pub fn ask(question: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Code::Usage,
            "there is no terminal to ask for the user on; name it with -u",
        ));
    }
    let _ = std::io::stderr().write_all(question.as_bytes());
    line_of_stdin()
}

/// Asks on the terminal without an echo.
pub fn secret(question: &str) -> Result<String> {
    rpassword::prompt_password(question)
        .map_err(|error| Failure::io(Code::Usage, "there is no terminal to ask for a password on", &error))
}

/// A line from standard input, without its end.
pub fn line_of_stdin() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|e| Failure::io(Code::Usage, "standard input", &e))?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        Err(Failure::new(Code::Usage, "standard input: empty"))
    } else {
        Ok(line.to_owned())
    }
}
