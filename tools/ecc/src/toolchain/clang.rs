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

/// The first version whose BPF code carries what libbpf's headers ask for.
const OLDEST: u32 = 11;
const INSTALL: &str = "install clang (Debian: apt install clang) or name it with --clang or $CLANG";

/// A clang that was found and asked for its version.
pub struct Clang {
    path: PathBuf,
    version: u32,
    /// The folders it searches for the host's own headers.
    system: Vec<PathBuf>,
}

/// What the cache folder is called in objects, so that they do not depend on whose it is.
pub const CACHE_NAME: &str = "/libeunomia";

/// What to search and define, in clang's order.
pub struct Search<'a> {
    /// Macros that are defined, without a value.
    pub defines: &'a [&'a str],
    /// Searched before all others.
    pub wrapper: &'a Path,
    /// The user's own flags.
    pub flags: &'a [String],
    /// Searched after the user's folders.
    pub folders: Vec<&'a Path>,
    /// Searched after the system's folders.
    pub fallback: &'a Path,
    /// Where headers are kept.
    pub cache: &'a Path,
    /// The machine, as libbpf's bpf_tracing.h names it.
    pub arch: &'a str,
}

/// The types that the debug information describes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Types {
    /// Those of variables.
    Used,
    /// All that are defined.
    All,
}

impl Clang {
    /// `given`, else `$CLANG`, else the newest `clang-N` on the path, else `clang`.
    pub fn find(given: Option<&Path>) -> Result<Clang> {
        let named = given.map(PathBuf::from).or_else(|| std::env::var_os("CLANG").map(PathBuf::from));
        let path = match named.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => path,
            None => newest().ok_or_else(|| format!("no clang found: {INSTALL}"))?,
        };
        let output = temporary::output(command(&path).args(["-v", "-E", "-x", "c", "/dev/null"]))
            .map_err(|error| format!("{}: {}: {INSTALL}", path.display(), reason(&error)))?;
        let version = check_version(&path, &output)?;
        Ok(Clang { system: search_list(&output.stderr), path, version })
    }

    /// The program itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first part of its version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The folders of the host's own headers.
    pub fn system_folders(&self) -> &[PathBuf] {
        &self.system
    }

    /// Whether `source` includes a file `name` that is not there, also through other headers.
    pub fn misses(&self, source: &Path, name: &str, search: &Search) -> Result<bool> {
        if source.with_file_name(name).exists() {
            return Ok(false);
        }
        Ok(self.dependencies(source, search)?.iter().any(|path| path == Path::new(name)))
    }

    /// The files that `source` is made of, itself included; those that are not found under their bare names.
    pub fn dependencies(&self, source: &Path, search: &Search) -> Result<Vec<PathBuf>> {
        // -MG lists what is not found too.
        let output = self.run(self.command(search).args(["-M", "-MG"]).arg(source))?;
        Ok(prerequisites(&output.stdout))
    }

    /// Compiles `source`; the diagnostics go to the user as they are.
    pub fn compile(&self, source: &Path, search: &Search, types: Types, verbose: bool) -> Result<Vec<u8>> {
        let command = || {
            let mut command = self.command(search);
            if types == Types::All {
                // The diagnostics have been shown before.
                command.args(["-fno-eliminate-unused-debug-types", "-w"]);
            }
            if let Some(folder) = source.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                command.arg(joined("-fmacro-prefix-map=", folder, "/="));
            }
            command.args(["-c"]).arg(source);
            command
        };
        let mut output = self.try_make(command(), verbose)?;
        if redeclares(&output, "vmlinux.h") {
            // The program declares kfuncs otherwise than this kernel does, or has functions of its own of these names.
            let mut without = command();
            without.arg(format!("-D{}", vmlinux::NO_KFUNCS));
            output = Some(self.try_make(without, verbose)?).filter(|o| o.status.success()).unwrap_or(output);
        }
        self.made(output, "bpf")
    }

    /// Runs `command` and returns what it makes for `target`; the diagnostics go to the user as they are.
    pub fn make(&self, command: Command, target: &str, verbose: bool) -> Result<Vec<u8>> {
        let output = self.try_make(command, verbose)?;
        self.made(output, target)
    }

    fn try_make(&self, mut command: Command, verbose: bool) -> Result<Output> {
        if std::io::stderr().is_terminal() {
            command.arg("-fcolor-diagnostics");
        }
        command.args(["-o", "-"]);
        if verbose {
            eprintln!("ecc: {command:?}");
        }
        self.run(&mut command)
    }

    fn made(&self, output: Output, target: &str) -> Result<Vec<u8>> {
        if !output.status.success() && !self.knows(target)? {
            return Err(
                format!("{}: was built without the target {target}: {INSTALL}", self.path.display()).into()
            );
        }
        // Nobody is left to tell if stderr is gone.
        let _ = std::io::stderr().write_all(&output.stderr);
        if output.status.success() { Ok(output.stdout) } else { Err(Error::Diagnosed) }
    }

    /// The path that clang prints when asked with these flags.
    pub fn ask(&self, flags: &[&str]) -> Result<PathBuf> {
        let output = self.run(self.bare().args(flags))?;
        Ok(PathBuf::from(OsStr::from_bytes(output.stdout.trim_ascii())))
    }

    /// A command without any flags.
    pub fn bare(&self) -> Command {
        command(&self.path)
    }

    fn command(&self, search: &Search) -> Command {
        let mut command = self.bare();
        command.args(["-target", "bpf", "-g", "-O2", "-Wno-unknown-attributes", "-fno-addrsig"]);
        command.arg(format!("-D__TARGET_ARCH_{}", search.arch));
        // Where the debug information places variables on the stack, it counts from the end of it.
        command.arg("-fstack-size-section");
        // Paths of this machine would only make the same source give different objects.
        command.args(["-fdebug-compilation-dir", "."]);
        command.arg(joined("-fdebug-prefix-map=", search.cache, &format!("={CACHE_NAME}")));
        command.args(search.defines.iter().map(|name| format!("-D{name}")));
        command.arg(joined("-I", search.wrapper, ""));
        command.args(search.flags);
        command.args(search.folders.iter().map(|folder| joined("-I", folder, "")));
        for folder in self.system.iter().map(PathBuf::as_path).chain([search.fallback]) {
            command.arg("-idirafter").arg(folder);
        }
        command
    }

    fn run(&self, command: &mut Command) -> Result<Output> {
        temporary::output(command).map_err(|error| Error::io(self.path.display(), &error))
    }

    /// Asked only after a failure: whether there is a code generator for `target` at all.
    fn knows(&self, target: &str) -> Result<bool> {
        let mut probe = self.bare();
        probe.args(["-target", target, "-c", "-x", "c", "/dev/null", "-o", "/dev/null"]);
        Ok(self.run(&mut probe)?.status.success())
    }
}

/// Whether clang has failed over a second declaration of what a header declares.
fn redeclares(output: &Output, header: &str) -> bool {
    let has = |text: &str| output.stderr.windows(text.len()).any(|window| window == text.as_bytes());
    !output.status.success() && has(header) && has("previous declaration is here")
}

fn command(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

/// The newest `clang-N`, else `clang`.
fn newest() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let entries = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.strip_prefix("clang-")?.parse().ok()?;
        is_program(&entry.path()).then(|| (version, entry.path()))
    });
    // The first on the path wins among equals.
    let best = numbered.reduce(|best, next| if next.0 > best.0 { next } else { best });
    let plain = || folders.iter().map(|folder| folder.join("clang")).find(|path| is_program(path));
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
            Err(format!("{}: clang {version} is too old, {OLDEST} is needed: {INSTALL}", path.display())
                .into())
        }
        None => Err(format!("{}: is no clang: {INSTALL}", path.display()).into()),
    }
}

/// The list of `#include <...>` folders that `clang -v -E` prints.
fn search_list(stderr: &[u8]) -> Vec<PathBuf> {
    let lines = stderr.split(|&byte| byte == b'\n').skip_while(|line| !line.starts_with(b"#include <...>"));
    let folders = lines.skip(1).take_while(|line| line.starts_with(b" "));
    folders.map(|line| PathBuf::from(OsStr::from_bytes(line.trim_ascii()))).collect()
}

/// What stands behind the colon of a rule for make.
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
    fn a_rule_for_make_names_files() {
        let rule = b"p.bpf.o: my\\ dir/p.bpf.c \\\n  a$$b.h c\\#d.h \\\n /usr/x:y.h\n";
        let paths = ["my dir/p.bpf.c", "a$b.h", "c#d.h", "/usr/x:y.h"];
        assert_eq!(prerequisites(rule), paths.map(Path::new));
        assert!(prerequisites(b"").is_empty());
    }
}
