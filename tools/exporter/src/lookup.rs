//! Names that this machine has for numbers: users, interfaces, disks, control groups, functions of the kernel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The kind of object that a number identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lookup {
    /// A user, from /etc/passwd.
    User,
    /// A network interface.
    Interface,
    /// A disk, by major and minor number.
    Disk,
    /// A control group, by its id.
    Cgroup,
    /// A function of the kernel, by an address within it.
    Function,
}

const ALL: [(&str, Lookup); 5] = [
    ("user", Lookup::User),
    ("ifname", Lookup::Interface),
    ("majorminor", Lookup::Disk),
    ("cgroup", Lookup::Cgroup),
    ("ksym", Lookup::Function),
];

/// The names of one lookup, and when they were read.
struct Names {
    read: Instant,
    names: BTreeMap<u64, String>,
}

static KNOWN: Mutex<BTreeMap<Lookup, Names>> = Mutex::new(BTreeMap::new());

/// Names are read again for an unknown number, but at most once in this time.
const AGAIN: Duration = Duration::from_secs(1);
/// Maximum number of names, and maximum depth of directories of control groups.
const MAX_NAMES: usize = 1 << 20;
const MAX_DEPTH: usize = 32;

impl Lookup {
    /// Finds a lookup by its name in the configuration.
    pub fn find(name: &str) -> Option<Lookup> {
        ALL.iter().find(|(known, _)| *known == name).map(|(_, lookup)| *lookup)
    }

    /// All names, for messages.
    pub fn words() -> String {
        ALL.map(|(name, _)| name).join(", ")
    }

    /// The name of a number; the number itself if there is none.
    pub fn name(self, number: i128) -> String {
        let number = number as u64;
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |names: &Names| names.read.elapsed() < AGAIN;
        match known.get(&self) {
            Some(names) if self.among(&names.names, number).is_some() || is_fresh(names) => {}
            _ => {
                known.insert(self, Names { read: Instant::now(), names: self.read() });
            }
        }
        let found = known.get(&self).and_then(|names| self.among(&names.names, number));
        found.cloned().unwrap_or_else(|| self.unknown(number))
    }

    fn among(self, names: &BTreeMap<u64, String>, number: u64) -> Option<&String> {
        match self {
            // The function that begins at or before the address.
            Lookup::Function => names.range(..=number).next_back().map(|(_, name)| name),
            _ => names.get(&number),
        }
    }

    fn unknown(self, number: u64) -> String {
        match self {
            Lookup::Function => format!("{number:#x}"),
            Lookup::Disk => format!("{}:{}", number >> 20, number & 0xf_ffff),
            _ => number.to_string(),
        }
    }

    fn read(self) -> BTreeMap<u64, String> {
        match self {
            Lookup::User => lines("/etc/passwd", |line| {
                let mut words = line.split(':');
                let name = words.next()?;
                Some((words.nth(1)?.parse().ok()?, name.to_owned()))
            }),
            Lookup::Interface => interfaces(),
            Lookup::Disk => disks(),
            Lookup::Cgroup => cgroups(),
            Lookup::Function => {
                let text = read_symbols();
                let functions = symbols(&text);
                functions.filter(|(_, is_function, _)| *is_function).map(symbol).take(MAX_NAMES).collect()
            }
        }
    }
}

fn lines(path: &str, parse: impl Fn(&str) -> Option<(u64, String)>) -> BTreeMap<u64, String> {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(parse).take(MAX_NAMES).collect()
}

/// The symbols of the kernel. Whoever opens the file determines whether addresses are shown, so it is opened while the process has
/// its capabilities.
static SYMBOLS: OnceLock<Option<File>> = OnceLock::new();
/// Maximum size of the symbols.
const MAX_SYMBOLS: usize = 64 << 20;

/// Opens the symbols of the kernel.
pub fn open_symbols() {
    SYMBOLS.get_or_init(|| File::open("/proc/kallsyms").ok());
}

/// The address of a function or variable of the kernel.
pub fn address(name: &str) -> Option<u64> {
    let text = read_symbols();
    symbols(&text).find(|(_, _, known)| *known == name).map(|(address, ..)| address)
}

fn read_symbols() -> String {
    open_symbols();
    let mut bytes = Vec::new();
    if let Some(Some(file)) = SYMBOLS.get() {
        let mut piece = vec![0; 1 << 16];
        while let Ok(len @ 1..) = file.read_at(&mut piece, bytes.len() as u64) {
            bytes.extend_from_slice(&piece[..len]);
            if bytes.len() > MAX_SYMBOLS {
                break;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The address of each symbol, whether it is a function, and its name.
fn symbols(text: &str) -> impl Iterator<Item = (u64, bool, &str)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok().filter(|address| *address != 0)?;
        let is_function = words.next()?.eq_ignore_ascii_case("t");
        words.next().map(|name| (address, is_function, name))
    })
}

fn symbol((address, _, name): (u64, bool, &str)) -> (u64, String) {
    (address, name.to_owned())
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn names(folder: &str) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
}

fn interfaces() -> BTreeMap<u64, String> {
    names("/sys/class/net").filter_map(|(name, path)| Some((number(&path.join("ifindex"))?, name))).collect()
}

/// Disks and partitions, with the number that the kernel has for them: 20 bits for the minor one.
fn disks() -> BTreeMap<u64, String> {
    let parse = |(name, path): (String, PathBuf)| {
        let text = fs::read_to_string(path.join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?, name))
    };
    names("/sys/class/block").filter_map(parse).collect()
}

/// The paths of control groups. The id of a group is the inode of its directory.
fn cgroups() -> BTreeMap<u64, String> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = BTreeMap::new();
    if let Ok(about) = fs::metadata(root) {
        found.insert(about.ino(), "/".to_owned());
    }
    let mut waiting = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && found.len() < MAX_NAMES
                && depth < MAX_DEPTH
            {
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
                found.insert(entry.ino(), format!("/{name}"));
                waiting.push((path, depth + 1));
            }
        }
    }
    found
}
