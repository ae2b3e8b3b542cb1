//! Generates manual pages and shell completions from the definition of the command line, for `make install`.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

use crate::error::{Code, Failure, Result};
use crate::options::CommandLine;

/// Writes manual pages and completions to `prefix/share`.
pub fn write(prefix: &Path) -> Result<ExitCode> {
    let failed = |e: std::io::Error| Failure::io(Code::Output, prefix.display(), &e);
    let folder = |name: &str| -> std::io::Result<std::path::PathBuf> {
        let path = prefix.join("share").join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    };
    let mut command = CommandLine::command();
    let shells = [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ];
    for (shell, name) in shells {
        let written =
            generate_to(shell, &mut command, "ecli", folder(name).map_err(failed)?).map_err(failed)?;
        if shell == Shell::Bash {
            // bash looks for the name of the command without a suffix.
            std::fs::rename(&written, written.with_file_name("ecli")).map_err(failed)?;
        }
    }
    clap_mangen::generate_to(command, folder("man/man1").map_err(failed)?).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
