//! Finds clang and runs it.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Result};
use crate::files::temporary;
use crate::toolchain::vmlinux;

/// The oldest version that supports the features which libbpf's headers use.
const OLDEST: u32 = 11;
const INSTALL: &str = "install clang (Debian: apt install clang) or select one with --clang or $CLANG";

/// A clang of a supported version.
pub struct Clang {
    path: PathBuf,
    version: u32,
    /// The directories that it searches for the system's headers.
    system_dirs: Vec<PathBuf>,
}

/// The name of the cache directory in objects, so that they do not depend on the user.
pub const CACHE_NAME: &str = "/libeunomia";

/// The search path and macros for a source, in the order of clang's arguments.
pub struct Search<'a> {
    /// Macros to define, without a value.
    pub defines: &'a [&'a str],
    /// Searched before all others.
    pub wrapper: &'a Path,
    /// The user's own flags.
    pub flags: &'a [String],
    /// Searched after the user's directories.
    pub dirs: Vec<&'a Path>,
    /// Searched after the system's directories.
    pub fallback: &'a Path,
    /// The cache directory.
    pub cache: &'a Path,
    /// The machine's name in libbpf's `bpf_tracing.h`.
    pub arch: &'a str,
}

/// The types that the debug information describes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Types {
    /// The types of variables.
    Used,
    /// All types that are defined.
    All,
}

impl Clang {
    /// Finds `given`, else `$CLANG`, else the newest `clang-N` in `$PATH`, else `clang`.
    pub fn find(given: Option<&Path>) -> Result<Clang> {
        let named = given.map(PathBuf::from).or_else(|| std::env::var_os("CLANG").map(PathBuf::from));
        let path = match named.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => path,
            None => newest().ok_or_else(|| format!("no clang found: {INSTALL}"))?,
        };
        let output = temporary::output(command(&path).args(["-v", "-E", "-x", "c", "/dev/null"]))
            .map_err(|error| format!("{}: {}: {INSTALL}", path.display(), reason(&error)))?;
        let version = check_version(&path, &output)?;
        Ok(Clang { system_dirs: search_list(&output.stderr), path, version })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The major version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The directories with the system's headers.
    pub fn system_dirs(&self) -> &[PathBuf] {
        &self.system_dirs
    }

    /// Whether `source` includes a missing file `name`, directly or through other headers.
    pub fn misses(&self, source: &Path, name: &str, search: &Search) -> Result<bool> {
        if source.with_file_name(name).exists() {
            return Ok(false);
        }
        Ok(self.dependencies(source, search)?.iter().any(|path| path == Path::new(name)))
    }

    /// The files that `source` consists of, itself included. Missing files are listed as they are included.
    pub fn dependencies(&self, source: &Path, search: &Search) -> Result<Vec<PathBuf>> {
        // -MG also lists missing files.
        let output = self.run(self.command(search).args(["-M", "-MG"]).arg(source))?;
        Ok(prerequisites(&output.stdout))
    }

    /// Compiles `source`. Prints clang's diagnostics unchanged.
    pub fn compile(&self, source: &Path, search: &Search, types: Types, verbose: bool) -> Result<Vec<u8>> {
        let command = || {
            let mut command = self.command(search);
            if types == Types::All {
                // The first run has printed the diagnostics.
                command.args(["-fno-eliminate-unused-debug-types", "-w"]);
            }
            if let Some(dir) = source.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                command.arg(joined("-fmacro-prefix-map=", dir, "/="));
            }
            command.args(["-c"]).arg(source);
            command
        };
        let mut output = self.try_run(command(), verbose)?;
        if has_redeclaration(&output, "vmlinux.h") {
            // The program declares kfuncs differently from the kernel, or defines functions with the same names.
            let mut without = command();
            without.arg(format!("-D{}", vmlinux::NO_KFUNCS));
            output = Some(self.try_run(without, verbose)?).filter(|o| o.status.success()).unwrap_or(output);
        }
        self.finish(output, "bpf")
    }

    /// Runs a command that compiles for `target`, and returns its output file. Prints clang's diagnostics unchanged.
    pub fn run_for(&self, target: &str, command: Command, verbose: bool) -> Result<Vec<u8>> {
        let output = self.try_run(command, verbose)?;
        self.finish(output, target)
    }

    fn try_run(&self, mut command: Command, verbose: bool) -> Result<Output> {
        if std::io::stderr().is_terminal() {
            command.arg("-fcolor-diagnostics");
        }
        command.args(["-o", "-"]);
        if verbose {
            eprintln!("ecc: {command:?}");
        }
        self.run(&mut command)
    }

    fn finish(&self, output: Output, target: &str) -> Result<Vec<u8>> {
        if !output.status.success() && !self.has_target(target)? {
            return Err(
                format!("{}: built without the target {target}: {INSTALL}", self.path.display()).into()
            );
        }
        // If stderr is closed, there is nobody to report to.
        let _ = std::io::stderr().write_all(&output.stderr);
        if output.status.success() { Ok(output.stdout) } else { Err(Error::Diagnosed) }
    }

    /// The path that clang prints with these flags, such as `-print-prog-name=`.
    pub fn print_path(&self, flags: &[&str]) -> Result<PathBuf> {
        let output = self.run(self.bare().args(flags))?;
        Ok(PathBuf::from(OsStr::from_bytes(output.stdout.trim_ascii())))
    }

    /// A command without flags.
    pub fn bare(&self) -> Command {
        command(&self.path)
    }

    fn command(&self, search: &Search) -> Command {
        let mut command = self.bare();
        command.args(["-target", "bpf", "-g", "-O2", "-Wno-unknown-attributes", "-fno-addrsig"]);
        command.arg(format!("-D__TARGET_ARCH_{}", search.arch));
        // The debug information locates stack variables relative to the end of the frame, so its size is needed.
        command.arg("-fstack-size-section");
        // Objects must not depend on paths of this machine.
        command.args(["-fdebug-compilation-dir", "."]);
        command.arg(joined("-fdebug-prefix-map=", search.cache, &format!("={CACHE_NAME}")));
        command.args(search.defines.iter().map(|name| format!("-D{name}")));
        command.arg(joined("-I", search.wrapper, ""));
        command.args(search.flags);
        command.args(search.dirs.iter().map(|dir| joined("-I", dir, "")));
        for dir in self.system_dirs.iter().map(PathBuf::as_path).chain([search.fallback]) {
            command.arg("-idirafter").arg(dir);
        }
        command
    }

    fn run(&self, command: &mut Command) -> Result<Output> {
        temporary::output(command).map_err(|error| Error::io(self.path.display(), &error))
    }

    /// Whether clang was built with a code generator for `target`. Called only after a failure.
    fn has_target(&self, target: &str) -> Result<bool> {
        let mut probe = self.bare();
        probe.args(["-target", target, "-c", "-x", "c", "/dev/null", "-o", "/dev/null"]);
        Ok(self.run(&mut probe)?.status.success())
    }
}

/// Whether clang failed because the program redeclares something from a header.
fn has_redeclaration(output: &Output, header: &str) -> bool {
    let has = |text: &str| output.stderr.windows(text.len()).any(|window| window == text.as_bytes());
    !output.status.success() && has(header) && has("previous declaration is here")
}

fn command(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

/// The newest `clang-N` in `$PATH`, else `clang`.
fn newest() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let entries = dirs.iter().filter_map(|dir| dir.read_dir().ok()).flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.strip_prefix("clang-")?.parse().ok()?;
        is_program(&entry.path()).then(|| (version, entry.path()))
    });
    // Of equal versions, the first one in $PATH is used.
    let best = numbered.reduce(|best, next| if next.0 > best.0 { next } else { best });
    let plain = || dirs.iter().map(|dir| dir.join("clang")).find(|path| is_program(path));
    best.map(|(_, path)| path).or_else(plain)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn check_version(path: &Path, output: &Output) -> Result<u32> {
    let text = String::from_utf8_lossy(&output.stderr);
    let version: Option<u32> =
        text.split("clang version ").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
    match version {
        Some(version) if version >= OLDEST => Ok(version),
        Some(version) => {
            let path = path.display();
            Err(format!("{path}: clang {version} is too old, need {OLDEST} or newer: {INSTALL}").into())
        }
        None => Err(format!("{}: not clang: {INSTALL}", path.display()).into()),
    }
}

/// The directories in the list `#include <...>` that `clang -v -E` prints.
fn search_list(stderr: &[u8]) -> Vec<PathBuf> {
    let lines = stderr.split(|&byte| byte == b'\n').skip_while(|line| !line.starts_with(b"#include <...>"));
    let dirs = lines.skip(1).take_while(|line| line.starts_with(b" "));
    dirs.map(|line| PathBuf::from(OsStr::from_bytes(line.trim_ascii()))).collect()
}

/// The prerequisites of a rule for make.
fn prerequisites(rule: &[u8]) -> Vec<PathBuf> {
    let start = rule.windows(2).position(|pair| pair[0] == b':' && pair[1].is_ascii_whitespace());
    let mut rest = rule[start.map_or(rule.len(), |colon| colon + 1)..].iter().copied().peekable();
    let (mut paths, mut path) = (Vec::new(), Vec::new());
    while let Some(byte) = rest.next() {
        match (byte, rest.peek()) {
            (b'\\', Some(b' ' | b'#')) | (b'$', Some(b'$')) => path.extend(rest.next()),
            (b'\\', Some(b'\n')) => {}
            _ if byte.is_ascii_whitespace() => paths.push(std::mem::take(&mut path)),
            _ => path.push(byte),
        }
    }
    paths.push(path);
    paths.retain(|path| !path.is_empty());
    paths.iter().map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
}

fn joined(before: &str, path: &Path, after: &str) -> OsString {
    let mut text = OsString::from(before);
    text.push(path);
    text.push(after);
    text
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such program".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::prerequisites;

    #[test]
    fn the_prerequisites_of_a_make_rule_are_parsed() {
        let rule = b"p.bpf.o: my\\ dir/p.bpf.c \\\n  a$$b.h c\\#d.h \\\n /usr/x:y.h\n";
        let paths = ["my dir/p.bpf.c", "a$b.h", "c#d.h", "/usr/x:y.h"];
        assert_eq!(prerequisites(rule), paths.map(Path::new));
        assert!(prerequisites(b"").is_empty());
    }
}
