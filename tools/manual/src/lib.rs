//! Writes manual pages and shell completions from the definition of a command line, for `make install`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::{Shell, generate_to};

/// Writes manual pages and completions to `prefix/share`.
pub fn write(mut command: Command, prefix: &Path) -> io::Result<()> {
    let folder = |name: &str| -> io::Result<PathBuf> {
        let path = prefix.join("share").join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    };
    let name = command.get_name().to_owned();
    let shells = [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ];
    for (shell, place) in shells {
        let written = generate_to(shell, &mut command, &name, folder(place)?)?;
        if shell == Shell::Bash {
            // bash looks for the name of the command without a suffix.
            std::fs::rename(&written, written.with_file_name(&name))?;
        }
    }
    clap_mangen::generate_to(command, folder("man/man1")?)
}
