//! Compiles C to WASM: clang with wasi-libc and LLVM's linker.

use std::ffi::OsString;
use std::path::Path;

use crate::error::Result;
use crate::toolchain::cache::Cache;
use crate::toolchain::clang::Clang;

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

/// What the host calls: for memory of arguments and events, and, also where headers of eunomia-bpf do not say so, to begin
/// and with events.
const EXPORTS: [&str; 5] = [
    "-Wl,--export=malloc",
    "-Wl,--export=free",
    "-Wl,--export-if-defined=bpf_main",
    "-Wl,--export-if-defined=process_event",
    "-Wl,--export-if-defined=process_events",
];

/// What the host has; headers of eunomia-bpf do not say where these come from. Anything else that is not defined is an error.
const IMPORTS: &[u8] = b"create_bpf\nrun_bpf\nwait_and_poll_bpf\n";
const IMPORTS_FILE: &str = "wasm/imports.txt";

/// Compiles `source` to a module; `folders` are searched behind its own.
pub fn compile(
    clang: &Clang,
    cache: &Cache,
    source: &Path,
    folders: &[&Path],
    flags: &[String],
    verbose: bool,
) -> Result<Vec<u8>> {
    let mut command = clang.bare();
    let mut imports = OsString::from("--allow-undefined-file=");
    imports.push(cache.keep(IMPORTS_FILE, IMPORTS)?);
    command.args(["-target", TARGET]).args(FLAGS).args(EXPORTS).arg("-Xlinker").arg(imports).args(flags);
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
        ("linker", "-print-prog-name=wasm-ld", "lld".to_string()),
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
