//! Compiles C to WASM: clang with wasi-libc and LLVM's linker.

use std::path::Path;

use crate::clang::Clang;
use crate::error::Result;

const TARGET: &str = "wasm32-wasi";

/// A module that its host calls; nothing in it runs by itself. Names of functions stay, for messages about traps. The
/// stack comes first in memory, where running out of it is a trap and overwrites nothing.
const FLAGS: [&str; 6] = [
    "-mexec-model=reactor",
    "-O2",
    "-fno-exceptions",
    "-Wl,--strip-debug",
    "-Wl,--stack-first",
    "-Wl,-z,stack-size=65536",
];

/// What the host calls to have room for arguments and events.
const EXPORTS: [&str; 2] = ["-Wl,--export=malloc", "-Wl,--export=free"];

/// Compiles `source` to a module; `folders` are searched behind its own.
pub fn compile(
    clang: &Clang,
    source: &Path,
    folders: &[&Path],
    flags: &[String],
    verbose: bool,
) -> Result<Vec<u8>> {
    let mut command = clang.bare();
    command.args(["-target", TARGET]).args(FLAGS).args(EXPORTS).args(flags);
    for folder in folders {
        command.arg("-I").arg(folder);
    }
    command.arg(source);
    clang.make(command, TARGET, verbose)
}

/// Fails with the name of the Debian package if a part of the toolchain is missing.
pub fn check(clang: &Clang) -> Result<()> {
    let version = clang.version();
    let parts = [
        ("linker", "-print-prog-name=wasm-ld", format!("lld-{version}")),
        ("C library", "-print-file-name=crt1-reactor.o", "wasi-libc".to_string()),
        ("compiler runtime", "-print-libgcc-file-name", format!("libclang-rt-{version}-dev-wasm32")),
    ];
    for (part, question, package) in parts {
        // What it does not find, clang prints without its folder.
        let path = clang.ask(&["-target", TARGET, question])?;
        if !path.is_absolute() || !path.exists() {
            let clang = clang.path().display();
            return Err(format!(
                "{clang}: there is no {part} for WASM: install {package} (Debian: apt install {package}) \
                 or name another clang with --clang or $CLANG"
            )
            .into());
        }
    }
    Ok(())
}
