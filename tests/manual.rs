//! Test of the manual: it writes the files and runs the commands in the order of the manual, and compares the form of the
//! output with the output in the manual. The manual in Chinese must have the same files and commands.
//!
//! A reader ends a run with Ctrl-C. Here the output is closed after a few lines, which also ends the run. `sudo` does nothing,
//! because the test runs as root; ports are replaced by free ones; the container is replaced by its script.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::root;

const ENGLISH: &str = include_str!("../docs/manual.md");
const CHINESE: &str = include_str!("../docs/manual.zh.md");

/// Much longer than any command takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A code block: the words after its opening fence, and its lines.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    words: Vec<&'a str>,
    text: String,
}

fn blocks(manual: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = manual.lines();
    while let Some(line) = lines.next() {
        let Some(words) = line.strip_prefix("```") else { continue };
        let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        blocks.push(Block { words: words.split_whitespace().collect(), text });
    }
    blocks
}

/// A working directory, and replacements for what is outside it.
struct Reader {
    folder: tempfile::TempDir,
    ports: Vec<(&'static str, String)>,
    registry: Child,
}

impl Reader {
    fn new() -> Reader {
        let folder = tempfile::tempdir().unwrap();
        let ports = ["8080", "5000"].map(|port| (port, free_port()));
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        write("bin/sudo", "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nexec \"$@\"\n".into());
        let entry = root().join("tools/container/entrypoint.sh");
        write("bin/podman", format!("#!/bin/sh\nshift 5\nSRC=$PWD exec {} \"$@\"\n", entry.display()));
        write("bin/ecli", wrapper());
        write("work/.keep", String::new());
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{}}}\n",
            folder.path().join("registry").display(),
            ports[1].1
        );
        write("registry.yml", config);
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(folder.path().join("registry.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let registry = command.spawn().expect("Debian's docker-registry is installed");
        wait_for(&ports[1].1);
        Reader { folder, ports: ports.into(), registry }
    }

    /// The current directory of the manual's shell.
    fn place(&self) -> PathBuf {
        let kept = fs::read_to_string(self.folder.path().join("place"));
        kept.map_or_else(|_| self.folder.path().join("work"), |path| path.trim_end().into())
    }

    /// Runs the commands of a block and returns their output.
    fn type_in(&self, commands: &str) -> String {
        let mut commands = commands.to_owned();
        for (port, free) in &self.ports {
            commands = commands
                .replace(&format!(":{port}"), &format!(":{free}"))
                .replace(&format!("server {port}"), &format!("server {free}"));
        }
        // The next block continues in the same directory, with the exported variables.
        let kept = self.folder.path().display();
        let script = format!(
            "set -eo pipefail\n[ ! -e {kept}/environment ] || . {kept}/environment\n{commands}\npwd >{kept}/place\nexport -p >{kept}/environment\n"
        );
        let installed = installed();
        let path = |name: &str| installed.join(name).display().to_string();
        let target = root().join("target/debug");
        let paths = format!("{kept}/bin:{}:{}", target.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .current_dir(self.place())
            .env("PATH", paths)
            .env("HOME", self.folder.path());
        command.env("PKG_CONFIG_PATH", path("lib/pkgconfig")).env("LD_LIBRARY_PATH", path("lib"));
        command
            .env("EXAMPLES", root().join("examples"))
            .env("ECLI", target.join("ecli"))
            .env("NO_COLOR", "1");
        command.env_remove("XDG_CACHE_HOME").env_remove("XDG_CONFIG_HOME").env_remove("DOCKER_CONFIG");
        let output = command.stdin(Stdio::null()).output().expect("bash runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{commands}{}\n{out}{err}", output.status);
        out.into_owned()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.registry.kill();
        let _ = self.registry.wait();
    }
}

/// A wrapper of ecli that closes the output after a few lines.
fn wrapper() -> String {
    let ends = "*' -h '* | *' --help '* | *' --duration '* | *' --count '*";
    format!(
        "#!/bin/bash\nset -o pipefail\ncase \" $* \" in\n{ends}) exec \"$ECLI\" \"$@\" ;;\n' run '*) timeout -k 5 100 \"$ECLI\" \"$@\" | head -n 5 ;;\n*) exec \"$ECLI\" \"$@\" ;;\nesac\n"
    )
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn wait_for(port: &str) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(Instant::now() < deadline, "nobody listens at port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The directory that `make archive` built.
fn installed() -> PathBuf {
    let name = format!("eunomia-{}-{}-linux-gnu", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let folder = root().join("target/dist").join(name);
    assert!(folder.exists(), "{} is missing: run `make archive` first", folder.display());
    folder
}

/// Causes the events that the manual's programs report, until `done` is set.
fn be_busy(done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let script = "trap '' USR1; kill -USR1 $$; /bin/true; echo busy >/dev/null";
        Command::new("sh").args(["-c", script]).status().expect("sh runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a line has the form that the manual shows: objects with the same members, the same words in headings and usage
/// lines, else the same number of words.
fn is_like(line: &str, shown: &str) -> bool {
    let members = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(value.as_object()?.keys().cloned().collect::<BTreeSet<_>>())
    };
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    match members(shown) {
        Some(shown) => members(line) == Some(shown),
        None if shown.contains(|c: char| c.is_ascii_digit()) => words(line).len() == words(shown).len(),
        None => words(line) == words(shown),
    }
}

#[test]
fn every_command_of_the_manual_works() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        assert!(std::env::var_os("CI").is_none(), "the manual needs root, and CI must not skip it");
        eprintln!("SKIPPED: the manual needs root");
        return;
    }
    let (reader, done) = (Reader::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| be_busy(&done));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| type_all(&reader)));
        done.store(true, Ordering::Relaxed);
        // A web server still runs in the background of the shell; it ends when its directory is removed.
        Command::new("pkill").args(["-f", &format!("http.server {}", reader.ports[0].1)]).status().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn type_all(reader: &Reader) {
    let (mut printed, mut commands) = (String::new(), 0);
    for block in blocks(ENGLISH) {
        match block.words[..] {
            ["sh"] => {
                printed = reader.type_in(&block.text);
                commands += block.text.lines().count();
            }
            ["console"] => {
                for shown in block.text.lines() {
                    assert!(
                        printed.lines().any(|line| is_like(line, shown)),
                        "nothing like\n{shown}\nin\n{printed}"
                    );
                }
            }
            ["c", "part"] | [] => {}
            ["c", file] => fs::write(reader.place().join(file), &block.text).unwrap(),
            _ => panic!("the manual has a block {:?}", block.words),
        }
    }
    assert!(commands > 30, "only {commands} commands were found");
}

#[test]
fn the_chinese_manual_has_the_same_commands() {
    let (english, chinese) = (blocks(ENGLISH), blocks(CHINESE));
    for (english, chinese) in english.iter().zip(&chinese) {
        assert_eq!(english, chinese);
    }
    assert_eq!(english.len(), chinese.len());
    let headings = |manual: &str| {
        manual
            .lines()
            .filter(|line| line.starts_with('#') && line.contains("# "))
            .map(|line| line.split(' ').next().unwrap().len())
            .collect::<Vec<_>>()
    };
    assert!(!headings(ENGLISH).is_empty());
    assert_eq!(headings(&without_code(ENGLISH)), headings(&without_code(CHINESE)));
}

fn without_code(manual: &str) -> String {
    manual.split("```").step_by(2).collect()
}

#[test]
fn output_of_another_form_is_detected() {
    assert!(
        is_like(r#"{"a":1,"b":"x"}"#, r#"{"b":"","a":0}"#) && !is_like(r#"{"a":1}"#, r#"{"b":"","a":0}"#)
    );
    assert!(is_like("PID COMM", "PID  COMM") && !is_like("PID COMMAND", "PID COMM"));
    assert!(is_like("1 sh", "42 bash") && !is_like("1 2 sh", "42 bash"));
    assert!(Path::new("docs/manual.md").exists());
}
