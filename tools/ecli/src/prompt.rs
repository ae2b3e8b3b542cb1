//! Prompts for user names and passwords.

use std::io::{IsTerminal, Write};

use crate::error::{Code, Failure, Result};

/// Prompts on the terminal and reads a line from standard input.
pub fn ask(question: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Code::Usage,
            "cannot ask for the user name: standard input is not a terminal; use -u",
        ));
    }
    let _ = std::io::stderr().write_all(question.as_bytes());
    line_of_stdin()
}

/// Prompts on the terminal and reads a line without echo.
pub fn secret(question: &str) -> Result<String> {
    rpassword::prompt_password(question)
        .map_err(|error| Failure::io(Code::Usage, "cannot ask for the password: no terminal", &error))
}

/// Reads a line from standard input.
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
