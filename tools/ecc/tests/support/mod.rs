//! A directory with sources for one test, and functions that read the outputs.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use eunomia::package::Package;
use serde_json::Value;

/// The beginning of small sources. They compile quickly because they do not include vmlinux.h.
pub const HEAD: &str = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n";

/// The end of each source.
pub const LICENSE: &str = "char LICENSE[] SEC(\"license\") = \"GPL\";\n";

/// A directory that is removed after the test.
pub struct Project {
    pub dir: PathBuf,
}

impl Project {
    /// Creates an empty directory. `name` identifies the test.
    pub fn new(name: &str) -> Project {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Project { dir }
    }

    /// Writes a file.
    pub fn file(self, name: &str, text: &str) -> Project {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Writes a source with the usual beginning and license.
    pub fn source(self, name: &str, text: &str) -> Project {
        self.file(name, &format!("{HEAD}{text}\n{LICENSE}"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The compiler, with the directory as its working directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecc"));
        command.args(arguments).current_dir(&self.dir).env_remove("CLANG");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Compiles successfully. Returns the messages of the compiler.
    pub fn compile(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        stderr
    }

    /// Fails to compile. Returns the error line, without the name of the compiler.
    pub fn error(&self, arguments: &[&str]) -> String {
        one_error(&self.run(arguments))
    }

    /// The metadata of `NAME.skel.json`.
    pub fn meta(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(&format!("{name}.skel.json"))).unwrap()).unwrap()
    }

    pub fn object(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(&format!("{name}.bpf.o"))).unwrap()
    }

    pub fn package(&self) -> Package {
        Package::parse(&fs::read(self.path("package.json")).unwrap()).unwrap()
    }

    /// The BTF of an object, as bpftool prints it.
    pub fn btf(&self, name: &str) -> String {
        let object = self.path(&format!("{name}.bpf.o"));
        bpftool(&["btf", "dump", "file", object.to_str().unwrap()])
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The element of a list with this name.
pub fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

/// The names in a list.
pub fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// The error line of a failed run, without the compiler's name.
pub fn one_error(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim().strip_prefix("ecc: ").unwrap_or_else(|| panic!("{stderr}")).to_string()
}

/// The output of bpftool.
pub fn bpftool(arguments: &[&str]) -> String {
    // bpftool is in sbin, which may not be in $PATH.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bpftool").args(arguments).env("PATH", path).output().expect("bpftool runs");
    let messages = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "bpftool {arguments:?}: {}", String::from_utf8_lossy(&messages));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether this test may load programs. Prints a message if not.
pub fn may_load(test: &str) -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        assert!(std::env::var_os("CI").is_none(), "{test} needs root");
        eprintln!("SKIPPED: {test} needs root");
    }
    root
}

/// An object in the kernel. It is removed when dropped.
pub struct Loaded {
    dir: String,
}

impl Loaded {
    /// Loads an object of the project, and pins all programs and maps.
    pub fn load(project: &Project, name: &str) -> Loaded {
        let loaded = Loaded { dir: format!("/sys/fs/bpf/ecc-{name}-{}", std::process::id()) };
        let object = project.path(&format!("{name}.bpf.o"));
        let maps = format!("{}/maps", loaded.dir);
        bpftool(&["prog", "loadall", object.to_str().unwrap(), &loaded.dir, "pinmaps", &maps]);
        loaded
    }

    /// Runs an XDP program several times on an empty packet.
    pub fn run(&self, program: &str, times: u32, project: &Project) {
        let packet = project.path("packet");
        fs::write(&packet, [0u8; 64]).unwrap();
        let pin = format!("{}/{program}", self.dir);
        let (packet, times) = (packet.to_str().unwrap(), times.to_string());
        bpftool(&["prog", "run", "pinned", &pin, "data_in", packet, "repeat", &times]);
    }

    /// The content of a map.
    pub fn map(&self, name: &str) -> Value {
        let pin = format!("{}/maps/{name}", self.dir);
        serde_json::from_str(&bpftool(&["-j", "map", "dump", "pinned", &pin])).unwrap()
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
