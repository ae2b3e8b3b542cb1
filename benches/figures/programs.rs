//! Compiles the C programs and packages for the measurements.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Result, output, root};

/// Numbers of members of the measured event; see signal.h.
pub const FIELDS: [usize; 4] = [1, 5, 20, 60];

/// Reads, with five relocations each, and plain instructions of the programs of growing size; see size.bpf.c.
const SIZES: [(usize, usize); 7] = [(0, 7), (1, 63), (3, 3), (1, 963), (30, 90), (1, 3963), (120, 380)];

/// Paths of everything that is run or inspected.
pub struct Built {
    /// The release build of the shared library.
    pub library: PathBuf,
    /// The measured event for each number of members, and the programs that measure it.
    pub fields: [Compiled; FIELDS.len()],
    pub events: [PathBuf; FIELDS.len()],
    /// Programs of growing size, with their number of relocations.
    pub sizes: Vec<(Compiled, usize)>,
    /// A package without a source of events.
    pub idle: Compiled,
    /// A package on a raw tracepoint.
    pub raw: Compiled,
    /// A package with a map of many entries.
    pub series: Compiled,
    /// The package for processes with many packages.
    pub many: Compiled,
    /// Guests with the package of `signal`: one receives events one by one, one in batches.
    pub guests: [PathBuf; 2],
    /// Records whose lengths change, and the program that measures them.
    pub lengths: Compiled,
    pub lengths_event: PathBuf,
    /// An event with its time, and the programs that receive it: libbpf's, ours, bpftrace's.
    pub latency_event: Compiled,
    pub latency: [PathBuf; 3],
    pub event_cpp: PathBuf,
    pub lives: PathBuf,
    pub lives_cpp: PathBuf,
    pub guest_event: PathBuf,
    pub guest_start: PathBuf,
    pub load: PathBuf,
    /// Two versions of a package, and the programs that replace them.
    pub replaced: [Compiled; 2],
    pub replace: PathBuf,
    pub dispatcher: PathBuf,
    pub many_plain: PathBuf,
    pub many_ours: PathBuf,
    pub plain_host: PathBuf,
    pub plain_tool: PathBuf,
    pub flood: PathBuf,
    pub our_host: PathBuf,
    pub libbpf_rs: PathBuf,
}

/// An object and its package.
pub struct Compiled {
    pub object: PathBuf,
    pub package: PathBuf,
}

impl Built {
    /// Builds what is missing. The library must exist.
    pub fn build() -> Result<Built> {
        let out = root().join("target/figures");
        let fields = FIELDS.map(|count| format!("-DFIELDS={count}"));
        let fields_packages = fields.each_ref().map(|flag| compile_package("signal", &[flag], &out));
        let [one, five, twenty, sixty] = fields_packages;
        let fields_packages = [one?, five?, twenty?, sixty?];
        let (libbpf_rs, libbpf) = build_libbpf_rs(&out)?;
        let program = |name| compile_program(name, &[], &libbpf, &out);
        let cpp = |name| compile_cpp(name, &libbpf, &out);
        let [one, five, twenty, sixty] =
            fields.each_ref().map(|flag| compile_program("event", &[flag], &libbpf, &out));
        Ok(Built {
            library: root().join("target/dist/libeunomia.so"),
            guests: compile_guests(&fields_packages[1].package, &out)?,
            fields: fields_packages,
            events: [one?, five?, twenty?, sixty?],
            sizes: sizes(&out)?,
            idle: compile_package("idle", &[], &out)?,
            raw: compile_package("raw", &[], &out)?,
            series: compile_package("series", &[], &out)?,
            many: compile_package("many", &[], &out)?,
            lengths: compile_package("lengths", &[], &out)?,
            lengths_event: compile_program("event", &["-DLENGTHS=1"], &libbpf, &out)?,
            latency_event: compile_package("latency", &[], &out)?,
            latency: [program("latency_plain")?, program("latency_ours")?, program("latency_bpftrace")?],
            event_cpp: cpp("event_cpp")?,
            lives: program("lives")?,
            lives_cpp: cpp("lives_cpp")?,
            guest_event: program("guest_event")?,
            guest_start: program("guest_start")?,
            load: program("load")?,
            replaced: [
                compile_package("replaced", &["-DVERSION=1"], &out)?,
                compile_package("replaced", &["-DVERSION=2"], &out)?,
            ],
            replace: program("replace")?,
            dispatcher: program("dispatcher")?,
            many_plain: program("many_plain")?,
            many_ours: program("many_ours")?,
            plain_host: program("plain_host")?,
            plain_tool: program("plain_tool")?,
            flood: program("flood")?,
            our_host: program("our_host")?,
            libbpf_rs,
        })
    }

    /// Returns the default event, with five members.
    pub fn signal(&self) -> &Compiled {
        &self.fields[1]
    }
}

/// Returns the directory of these programs.
pub fn sources() -> PathBuf {
    root().join("benches/figures")
}

fn ecc() -> Command {
    Command::new(root().join("target/debug/ecc"))
}

/// Includes the flags, which are definitions, in the name.
fn file_name(name: &str, flags: &[&str]) -> String {
    [name].iter().chain(flags).copied().collect::<String>().replace("-D", "-").replace('=', "")
}

fn compile_package(name: &str, flags: &[&str], out: &Path) -> Result<Compiled> {
    let folder = out.join(file_name(name, flags));
    let mut compile = ecc();
    compile.arg(sources().join(format!("{name}.bpf.c"))).arg("-o").arg(&folder);
    output(compile.args(flags.iter().map(|flag| format!("--additional-cflags={flag}"))))?;
    Ok(Compiled { object: folder.join(format!("{name}.bpf.o")), package: folder.join("package.json") })
}

fn sizes(out: &Path) -> Result<Vec<(Compiled, usize)>> {
    let compile = |(reads, plain)| {
        let flags = [format!("-DREADS={reads}"), format!("-DPLAIN={plain}")];
        let compiled = compile_package("size", &flags.each_ref().map(String::as_str), out)?;
        Ok((compiled, 5 * reads))
    };
    SIZES.into_iter().map(compile).collect()
}

fn compile_guests(package: &Path, out: &Path) -> Result<[PathBuf; 2]> {
    let folder = out.join("guest");
    let mut build = ecc();
    build.arg("build-wasm").arg(sources().join("guest")).arg("--package").arg(package);
    output(build.arg("-o").arg(&folder))?;
    Ok(["each", "batch"].map(|name| folder.join(format!("{name}.wasm"))))
}

fn compile_program(name: &str, flags: &[&str], libbpf: &Path, out: &Path) -> Result<PathBuf> {
    let program = out.join(file_name(name, flags));
    compile(Command::new("cc").arg("-std=gnu11").args(flags), &format!("{name}.c"), libbpf, &program)
}

fn compile_cpp(name: &str, libbpf: &Path, out: &Path) -> Result<PathBuf> {
    let program = out.join(name);
    compile(Command::new("c++").arg("-std=gnu++17"), &format!("{name}.cpp"), libbpf, &program)
}

fn compile(compiler: &mut Command, source: &str, libbpf: &Path, program: &Path) -> Result<PathBuf> {
    compiler.args(["-Wall", "-Wextra", "-O2"]);
    compiler.arg("-I").arg(libbpf.join("include")).arg("-I").arg(root().join("include"));
    compiler.arg(sources().join(source)).arg("-o").arg(program);
    compiler.args(["libbpf.a", "libelf.a", "libz.a"].map(|name| libbpf.join(name)));
    compiler.arg("-L").arg(root().join("target/dist")).args(["-Wl,--as-needed", "-leunomia"]);
    compiler.arg("-Wl,-rpath,$ORIGIN/../dist");
    output(compiler).map(|_| program.to_owned())
}

/// Builds the host on libbpf-rs, a separate crate, and the libbpf that all competitors use: the version inside the
/// library, but compiled for speed, as distributions do. Returns the program and the directory of libbpf.
fn build_libbpf_rs(out: &Path) -> Result<(PathBuf, PathBuf)> {
    let folder = out.join("libbpf_rs");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--message-format", "json", "--target-dir"]).arg(&folder);
    let messages = output(cargo.current_dir(root().join("benches/libbpf_rs")))?;
    let values = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found = values.filter(|message| {
        message["reason"] == "build-script-executed"
            && message["package_id"].as_str().is_some_and(|id| id.contains("libbpf-sys"))
    });
    let libbpf = found.next().and_then(|message| Some(PathBuf::from(message["out_dir"].as_str()?)));
    Ok((folder.join("release/libbpf_rs_host"), libbpf.ok_or("cargo does not tell where it built libbpf")?))
}
