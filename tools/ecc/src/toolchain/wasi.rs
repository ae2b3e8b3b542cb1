//! Compiles C and C++ to WASM: clang with wasi-libc and LLVM's linker.

use std::ffi::OsString;
use std::path::Path;

use crate::error::Result;
use crate::toolchain::cache::Cache;
use crate::toolchain::clang::Clang;

const TARGET: &str = "wasm32-wasi";

/// A module whose exports the host calls. Function names are kept for messages about traps. The stack comes first in
/// memory, so that a stack overflow is a trap and overwrites nothing.
const FLAGS: [&str; 6] = [
    "-mexec-model=reactor",
    "-O2",
    "-fno-exceptions",
    "-Wl,--strip-debug",
    "-Wl,--stack-first",
    "-Wl,-z,stack-size=65536",
];

/// The functions that the host calls: to allocate arguments and events, to start the guest, and to pass events. Headers of
/// eunomia-bpf do not mark all of them as exports.
const EXPORTS: [&str; 5] = [
    "-Wl,--export=malloc",
    "-Wl,--export=free",
    "-Wl,--export-if-defined=bpf_main",
    "-Wl,--export-if-defined=process_event",
    "-Wl,--export-if-defined=process_events",
];

/// The functions that the host provides. Headers of eunomia-bpf do not mark them as imports. Other undefined symbols are
/// errors.
const IMPORTS: &[u8] = b"create_bpf\nrun_bpf\nwait_and_poll_bpf\n";
const IMPORTS_FILE: &str = "wasm/imports.txt";

/// Compiles `source` to a module. `dirs` are searched for headers, after the directory of the source.
pub fn compile(
    clang: &Clang,
    cache: &Cache,
    source: &Path,
    dirs: &[&Path],
    flags: &[String],
    verbose: bool,
) -> Result<Vec<u8>> {
    let mut command = clang.bare();
    let mut imports = OsString::from("--allow-undefined-file=");
    imports.push(cache.write(IMPORTS_FILE, IMPORTS)?);
    command.args(["-target", TARGET]).args(FLAGS).args(EXPORTS).arg("-Xlinker").arg(imports).args(flags);
    for dir in dirs {
        command.arg("-I").arg(dir);
    }
    command.arg(source);
    clang.run_for(TARGET, command, verbose)
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
        // If clang does not find a file, it prints the name without a directory.
        let path = clang.print_path(&["-target", TARGET, question])?;
        if !path.is_absolute() || !path.exists() {
            let clang = clang.path().display();
            return Err(format!(
                "{clang}: no {part} for WASM found: install {package} (Debian: apt install {package}) or select \
                 another clang with --clang or $CLANG"
            )
            .into());
        }
    }
    Ok(())
}
