//! Compiles the C programs and packages that the figures are taken with.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Result, output, root};

/// Where everything is that is run or looked at.
pub struct Built {
    /// The shared library as it ships.
    pub library: PathBuf,
    pub signal_object: PathBuf,
    pub signal_package: PathBuf,
    /// A package without a source of events.
    pub idle_package: PathBuf,
    /// A package at a raw tracepoint.
    pub raw_package: PathBuf,
    /// Guests with the package of `signal`: one that gets its events one by one, one that gets batches.
    pub guests: [PathBuf; 2],
    pub event: PathBuf,
    pub event_cpp: PathBuf,
    pub lives: PathBuf,
    pub lives_cpp: PathBuf,
    pub guest_event: PathBuf,
    pub guest_start: PathBuf,
    pub load: PathBuf,
    pub plain_host: PathBuf,
    pub plain_tool: PathBuf,
    pub flood: PathBuf,
    pub our_host: PathBuf,
}

impl Built {
    /// Builds what is missing. The library must be there.
    pub fn build() -> Result<Built> {
        let out = root().join("target/figures");
        for name in ["signal", "idle", "raw"] {
            compile_package(name, &out)?;
        }
        compile_guests(&out)?;
        let libbpf = libbpf()?;
        let program = |name| compile_program(name, &libbpf, &out);
        Ok(Built {
            library: root().join("target/dist/libeunomia.so"),
            signal_object: out.join("signal/signal.bpf.o"),
            signal_package: out.join("signal/package.json"),
            idle_package: out.join("idle/package.json"),
            raw_package: out.join("raw/package.json"),
            guests: ["each", "batch"].map(|name| out.join(format!("guest/{name}.wasm"))),
            event: program("event")?,
            event_cpp: compile_cpp("event_cpp", &libbpf, &out)?,
            lives: program("lives")?,
            lives_cpp: compile_cpp("lives_cpp", &libbpf, &out)?,
            guest_event: program("guest_event")?,
            guest_start: program("guest_start")?,
            load: program("load")?,
            plain_host: program("plain_host")?,
            plain_tool: program("plain_tool")?,
            flood: program("flood")?,
            our_host: program("our_host")?,
        })
    }
}

/// The folder of these programs.
pub fn sources() -> PathBuf {
    root().join("benches/figures")
}

fn ecc() -> Command {
    Command::new(root().join("target/debug/ecc"))
}

fn compile_package(name: &str, out: &Path) -> Result<()> {
    let source = sources().join(format!("{name}.bpf.c"));
    output(ecc().arg(source).arg("-o").arg(out.join(name))).map(drop)
}

fn compile_guests(out: &Path) -> Result<()> {
    let package = out.join("signal/package.json");
    let mut build = ecc();
    build.arg("build-wasm").arg(sources().join("guest")).arg("--package").arg(package);
    output(build.arg("-o").arg(out.join("guest"))).map(drop)
}

fn compile_program(name: &str, libbpf: &Path, out: &Path) -> Result<PathBuf> {
    compile(Command::new("cc").arg("-std=gnu11"), &format!("{name}.c"), libbpf, &out.join(name))
}

fn compile_cpp(name: &str, libbpf: &Path, out: &Path) -> Result<PathBuf> {
    compile(Command::new("c++").arg("-std=gnu++17"), &format!("{name}.cpp"), libbpf, &out.join(name))
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

/// The folder with the libbpf that was linked into the library: cargo tells it when asked to build the library again.
fn libbpf() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["rustc", "--release", "--target-dir", "target/dist", "--lib", "--crate-type", "cdylib"]);
    let messages = output(cargo.args(["--message-format", "json"]).current_dir(root()))?;
    let values = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found = values.filter(|message| {
        message["reason"] == "build-script-executed"
            && message["package_id"].as_str().is_some_and(|id| id.contains("libbpf-sys"))
    });
    let folder = found.next().and_then(|message| Some(PathBuf::from(message["out_dir"].as_str()?)));
    folder.ok_or_else(|| "cargo does not tell where it built libbpf".into())
}
