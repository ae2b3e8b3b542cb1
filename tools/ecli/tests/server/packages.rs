//! Hostile packages, given to the loader itself.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Command;

use eunomia_agent::limits::Limits;
use eunomia_agent::loader::protocol::{Alone, Caller, Origin, Request};
use eunomia_agent::loader::{Client, Settings};

use crate::cgroup::MemoryCgroup;
use crate::support::{Process, package};
use crate::{folder, needs_root};

/// A loader without a server.
struct Loader {
    client: Client,
    child: Process,
    // Removed after the process has ended.
    group: MemoryCgroup,
    _folder: tempfile::TempDir,
}

/// What the loader and its parsers may use, kernel memory included.
const MEMORY: u64 = 192 << 20;

impl Loader {
    fn start() -> Loader {
        let folder = folder();
        let path = folder.path().join("loader.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let group = MemoryCgroup::new(MEMORY);
        let [shell, words @ ..] = group.wrapper();
        let mut command = Command::new(shell);
        command.args(words).args([env!("CARGO_BIN_EXE_ecli"), "--load-packages"]);
        let child = Process(command.stdin(OwnedFd::from(listener)).spawn().unwrap());
        let client = Client::connect(&path, Settings::default(), Command::new("false")).unwrap();
        Loader { client, child, group, _folder: folder }
    }

    fn load(&self, task: u64, package: &[u8]) -> Result<(), String> {
        let origin = Origin { caller: Caller::Root, who: "test".into(), signature: None };
        let alone = Alone { detach: None, after: 1 };
        let (args, variables, wanted) = (Vec::new(), Vec::new(), String::new());
        let request = Request::Load {
            recover: false,
            task,
            package: package.to_vec(),
            args,
            variables,
            wanted,
            alone,
            limits: Limits::default(),
            origin,
        };
        self.client.load(&request).map(drop).map_err(|error| error.message)
    }

    /// The peak memory of the process, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

#[test]
fn the_loader_survives_what_is_hostile_to_its_parsers() {
    needs_root!();
    let loader = Loader::start();
    let good = std::fs::read(package("bootstrap")).unwrap();
    assert_eq!(loader.load(1, &good), Ok(()));
    let before = loader.peak();
    // Parsing the first two takes several times as much memory as they have bytes.
    let values = format!("{{\"a\":[{}0]}}", "{\"b\":0},".repeat(1 << 20));
    let nested = "[".repeat(8 << 20);
    let text = String::from_utf8(good.clone()).unwrap();
    let object = text.find("\"bpf_object\":\"").unwrap() + 14;
    let damaged = format!("{}AAAA{}", &text[..object], &text[object + 4..]);
    for (name, bytes) in [
        ("values", values.as_bytes()),
        ("nested", nested.as_bytes()),
        ("damaged", damaged.as_bytes()),
        ("zeros", &vec![0; 16 << 20]),
        ("cut", &good[..good.len() / 2]),
        ("empty", b""),
    ] {
        let why = loader.load(2, bytes).expect_err(name);
        assert!(!why.contains("loader has ended"), "{name}: {why}");
    }
    // The loader has held each message, of at most 16 MiB, but nothing that the parser derived from it.
    let used = loader.peak() - before;
    assert!(used < 64 << 10, "{used} KiB");
    assert_eq!(loader.client.list().unwrap().len(), 1, "the other task goes on");
    assert_eq!(loader.group.kills(), 0, "memory ran out");
    assert_eq!(loader.load(2, &good), Ok(()));
}
