//! The desired state in files, so that a server runs after its start what the previous server ran.
//!
//! ```text
//! STATE/lock              locked by the server that uses the directory
//! STATE/next              a number larger than that of any task
//! STATE/tasks/ID.json     the specification of a task
//! STATE/packages/DIGEST   packages
//! ```
//!
//! A file is written under another name, synced and renamed, and then its directory is synced: so each has its old or its new
//! content after a crash. A file that cannot be read is renamed to `NAME.broken` and reported; it does not prevent the start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value, json};

use crate::loader::protocol::{Caller, Origin};
use crate::spec::{Spec, digest};

/// The version of the files.
const VERSION: u64 = 1;
/// Maximum size of the file of a task, in bytes.
const MAX_RECORD: u64 = 4 << 20;
/// Maximum size of a package, in bytes.
const MAX_PACKAGE: u64 = 16 << 20;
/// Number of task numbers that are reserved with one write.
const RESERVED: u64 = 100;

/// The directory with the state.
pub struct State {
    folder: PathBuf,
    boot: String,
    _lock: File,
}

/// The file of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The number of the task.
    pub id: u64,
    /// Its specification.
    pub spec: Spec,
    /// Identifies its package.
    pub digest: String,
    /// The origin of its package.
    pub origin: Origin,
    /// Whether its programs are detached on request.
    pub is_paused: bool,
    /// The boot during which it was attached, until it is known to be healthy.
    pub attaching: Option<String>,
    /// The time when it was started, in seconds since 1970.
    pub created: u64,
}

impl State {
    /// Opens or creates the directory. Fails if another server uses it.
    pub fn open(folder: &Path) -> Result<State, String> {
        let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        for path in [folder.to_owned(), folder.join("tasks"), folder.join("packages")] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|error| failed(&path, error))?;
        }
        eunomia_owner::check(folder)?;
        let path = folder.join("lock");
        // The file is opened for reading, so that this works on a file system that has become read-only after a disk error.
        let create = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = File::open(&path).or_else(|_| create().and_then(|_| File::open(&path)));
        let lock = lock.map_err(|error| failed(&path, error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("{}: another server uses this directory", folder.display()))?;
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        Ok(State { folder: folder.to_owned(), boot, _lock: lock })
    }

    /// Identifies this run of the kernel.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Reads all tasks. A file that cannot be read is renamed and described in the second list. After an error nothing is known
    /// about the tasks, so no task may be stopped.
    pub fn load(&self) -> Result<(Vec<Record>, Vec<String>), String> {
        let (mut records, mut problems) = (Vec::new(), Vec::new());
        let folder = self.folder.join("tasks");
        let listed: io::Result<Vec<_>> = fs::read_dir(&folder).and_then(Iterator::collect);
        let listed = listed.map_err(|error| format!("{}: {error}", folder.display()))?;
        for path in
            listed.iter().map(fs::DirEntry::path).filter(|path| path.extension().is_some_and(|e| e == "json"))
        {
            match read_record(&path) {
                Ok(record) => records.push(record),
                Err(why) => problems.push(set_aside(&path, &why)),
            }
        }
        records.sort_by_key(|record| record.id);
        Ok((records, problems))
    }

    /// Removes the packages of which `is_used` returns false.
    pub fn remove_packages(&self, is_used: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(self.folder.join("packages")).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|name| !is_used(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Stores the file of a task. Its package must be stored before.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let mut object = Map::new();
        record.spec.write(&mut object);
        object.insert("version".into(), json!(VERSION));
        object.insert("id".into(), json!(record.id));
        object.insert("digest".into(), json!(record.digest));
        let caller = Caller::ALL.iter().find(|(caller, _)| *caller == record.origin.caller);
        object.insert("caller".into(), json!(caller.map(|(_, word)| word)));
        object.insert("who".into(), json!(record.origin.who));
        object.insert("signature".into(), json!(record.origin.signature));
        object.insert("paused".into(), json!(record.is_paused));
        object.insert("attaching".into(), json!(record.attaching));
        object.insert("created".into(), json!(record.created));
        let text = Value::Object(object).to_string();
        write(&self.folder.join("tasks"), &format!("{}.json", record.id), text.as_bytes())
    }

    /// Removes the file of a task.
    pub fn remove(&self, id: u64) -> io::Result<()> {
        let folder = self.folder.join("tasks");
        fs::remove_file(folder.join(format!("{id}.json")))?;
        File::open(folder)?.sync_all()
    }

    /// Stores a package, unless it is stored already.
    pub fn save_package(&self, digest: &str, package: &[u8]) -> io::Result<()> {
        let folder = self.folder.join("packages");
        if self.package(digest).is_ok() {
            return Ok(());
        }
        write(&folder, digest, package)
    }

    /// Reads a package.
    pub fn package(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.folder.join("packages").join(name);
        let package = read(&path, MAX_PACKAGE).map_err(|error| format!("{}: {error}", path.display()))?;
        match digest(&package) == name {
            true => Ok(package),
            false => Err(format!("{}: the digest of the content differs from the name", path.display())),
        }
    }

    /// Removes a package.
    pub fn remove_package(&self, digest: &str) {
        // A package that cannot be removed now is removed at the next start.
        let _ = fs::remove_file(self.folder.join("packages").join(digest));
    }

    /// Reserves task numbers from `id` on. Returns the end of the reserved range: the first number that is not reserved.
    pub fn reserve(&self, id: u64) -> io::Result<u64> {
        let end = id + RESERVED;
        write(&self.folder, "next", end.to_string().as_bytes())?;
        Ok(end)
    }

    /// The first number that is not reserved.
    pub fn next(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join("next")).unwrap_or_default();
        text.trim().parse().unwrap_or(1)
    }
}

/// Renames a file that cannot be read, and returns a line about it.
fn set_aside(path: &Path, why: &str) -> String {
    let aside = path.with_extension("json.broken");
    match fs::rename(path, &aside) {
        Ok(()) => format!("{}: {why}; renamed to {}", path.display(), aside.display()),
        Err(error) => format!("{}: {why}; it cannot be renamed: {error}", path.display()),
    }
}

fn read_record(path: &Path) -> Result<Record, String> {
    let text = read(path, MAX_RECORD).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| format!("invalid JSON: {error}"))?;
    let object = value.as_object().ok_or("expected an object")?;
    let number =
        |name: &str| object.get(name).and_then(Value::as_u64).ok_or(format!("{name}: expected a number"));
    if number("version")? != VERSION {
        return Err(format!("version {} is not supported", number("version")?));
    }
    let id = number("id")?;
    if path.file_stem().is_none_or(|name| *name != *id.to_string()) {
        return Err(format!("it is the file of task {id}"));
    }
    let digest = object.get("digest").and_then(Value::as_str).unwrap_or_default();
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("digest: expected 64 hexadecimal digits".into());
    }
    Ok(Record {
        id,
        spec: Spec::from_json(object, "").map_err(|error| error.message)?,
        digest: digest.to_owned(),
        origin: read_origin(object)?,
        is_paused: object.get("paused").and_then(Value::as_bool).ok_or("paused: expected true or false")?,
        attaching: object.get("attaching").and_then(Value::as_str).map(str::to_owned),
        created: number("created")?,
    })
}

fn read_origin(object: &Map<String, Value>) -> Result<Origin, String> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let caller = Caller::ALL.iter().find(|(_, word)| text("caller") == Some(word));
    let (caller, _) = caller.ok_or("caller: expected root, local or network")?;
    Ok(Origin {
        caller: *caller,
        who: text("who").unwrap_or_default().to_owned(),
        signature: text("signature").map(str::to_owned),
    })
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Writes a file so that after a crash it has its old or its new content.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    fs::rename(&draft, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use eunomia::Format;

    use super::*;
    use crate::limits::Limits;
    use crate::restart::Restart;
    use crate::sink::Sink;

    fn record(id: u64) -> Record {
        let variables = json!({"v": 1}).as_object().unwrap().clone();
        let spec = Spec {
            name: "n".into(),
            args: vec!["-p".into()],
            variables,
            format: Format::Text,
            detaches_alone: None,
            restart: Restart::OnFailure,
            sink: Sink::Journal,
            limits: Limits { memory_mib: Some(1), ..Limits::default() },
        };
        let attaching = Some("boot".to_owned());
        let origin = Origin { caller: Caller::Network, who: "w".into(), signature: Some("s".into()) };
        Record { id, spec, digest: digest(b"p"), origin, is_paused: true, attaching, created: 5 }
    }

    #[test]
    fn a_task_is_read_as_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.save_package(&digest(b"p"), b"p").unwrap();
        state.save_package(&digest(b"unused"), b"unused").unwrap();
        for id in [12, 3] {
            state.save(&record(id)).unwrap();
        }
        state.save(&Record { is_paused: false, ..record(3) }).unwrap();
        let expected = vec![Record { is_paused: false, ..record(3) }, record(12)];
        assert_eq!(state.load(), Ok((expected, Vec::new())));
        state.remove_packages(|name| name == digest(b"p"));
        assert_eq!(state.package(&digest(b"p")).unwrap(), b"p");
        assert!(state.package(&digest(b"unused")).is_err(), "removed, because no task uses it");
        state.remove(3).unwrap();
        assert_eq!(state.load().unwrap().0, [record(12)]);
        let end = state.reserve(13).unwrap();
        drop(state);
        assert_eq!(State::open(folder.path()).unwrap().next(), end);
    }

    #[test]
    fn broken_files_are_set_aside_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.save(&record(1)).unwrap();
        let tasks = folder.path().join("tasks");
        let good = fs::read_to_string(tasks.join("1.json")).unwrap();
        let broken = [
            ("2", good.clone()),
            ("3", String::new()),
            ("4", good[..good.len() / 2].to_owned()),
            ("5", good.replace("\"id\":1", "\"id\":5").replace("\"version\":1", "\"version\":2")),
            ("6", good.replace("\"id\":1", "\"id\":6").replace("\"n\"", "\"../n\"")),
            ("7", good.replace("\"id\":1", "\"id\":7").replace(&digest(b"p"), "/etc/passwd")),
            ("8", "[]".to_owned()),
        ];
        for (name, text) in &broken {
            fs::write(tasks.join(format!("{name}.json")), text).unwrap();
        }
        // Files that a crash leaves behind.
        fs::write(tasks.join("9.json.new"), "{").unwrap();
        let (records, problems) = state.load().unwrap();
        assert_eq!((records, problems.len()), (vec![record(1)], broken.len()), "{problems:?}");
        for (name, _) in &broken {
            assert!(tasks.join(format!("{name}.json.broken")).exists(), "{name}");
        }
        assert_eq!(state.load(), Ok((vec![record(1)], Vec::new())));
        // If nothing can be read, no task may be stopped.
        fs::rename(&tasks, folder.path().join("away")).unwrap();
        assert!(state.load().is_err());
    }

    #[test]
    fn a_changed_package_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.save_package(&digest(b"p"), b"p").unwrap();
        fs::write(folder.path().join("packages").join(digest(b"p")), b"q").unwrap();
        assert!(
            state
                .package(&digest(b"p"))
                .unwrap_err()
                .ends_with("the digest of the content differs from the name")
        );
        state.save_package(&digest(b"p"), b"p").unwrap();
        assert_eq!(state.package(&digest(b"p")).unwrap(), b"p");
    }

    #[test]
    fn two_servers_do_not_use_the_same_directory() {
        let folder = tempfile::tempdir().unwrap();
        let first = State::open(folder.path()).unwrap();
        let message = State::open(folder.path()).err().unwrap();
        assert!(message.ends_with("another server uses this directory"), "{message}");
        drop(first);
        assert!(State::open(folder.path()).is_ok());
    }
}
