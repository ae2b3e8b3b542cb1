//! Reads the policy file.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file that is read unless the options name another one.
pub const DEFAULT: &str = "/etc/eunomia/policy.toml";

/// The directory with trusted keys unless the file names another one. ecli uses the same directory.
const KEYS: &str = "/etc/libeunomia/trusted";

/// The directory beneath which events may be written to files, unless the policy file names other directories.
const SINKS: &str = "/var/log/eunomia";

/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The rules. A list or number that is missing limits nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Who may start packages.
    pub callers: Callers,
    /// The directory with trusted keys.
    pub keys: PathBuf,
    /// Packages that need no signature: `sha256:` and 64 hexadecimal digits, here without the prefix.
    pub digests: Vec<String>,
    /// Places that the server may download packages from: URLs that end with a slash, or images without their tags.
    pub sources: Vec<String>,
    /// The allowed types of programs.
    pub program_types: Option<Vec<String>>,
    /// The allowed helpers and other functions of the kernel.
    pub calls: Option<Vec<String>>,
    /// The allowed effects of programs.
    pub effects: Option<Vec<String>>,
    /// Maximum number of tasks.
    pub tasks: Option<usize>,
    /// Maximum kernel memory of a task, in MiB.
    pub memory_mib: Option<u64>,
    /// Maximum kernel memory of all tasks, in MiB.
    pub total_memory_mib: Option<u64>,
    /// Maximum processor time of the programs of a task, in percent of one CPU.
    pub cpu_percent: Option<u64>,
    /// Maximum processor time of the programs of all tasks, in percent of one CPU.
    pub total_cpu_percent: Option<u64>,
    /// Maximum number of events of a task per second.
    pub events_per_second: Option<u64>,
    /// Maximum number of events of all tasks per second.
    pub total_events_per_second: Option<u64>,
    /// Directories beneath which events may be written to files.
    pub sink_folders: Vec<PathBuf>,
    /// Directories with the executables that uprobes may be attached to.
    pub uprobe_folders: Option<Vec<PathBuf>>,
    /// Control groups; those below them are allowed as well.
    pub cgroup_folders: Option<Vec<PathBuf>>,
}

/// The packages that each kind of caller may start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Callers {
    /// Root over the unix socket.
    pub root: Condition,
    /// Other users over the unix socket.
    pub local: Condition,
    /// Callers over TCP.
    pub network: Condition,
}

/// Which packages a caller may start.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// None.
    None,
    /// Those with a signature by a trusted key, or with a digest in the list.
    Signed,
    /// All.
    Any,
}

impl Default for Callers {
    fn default() -> Callers {
        Callers { root: Condition::Any, local: Condition::None, network: Condition::Signed }
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            callers: Callers::default(),
            keys: KEYS.into(),
            digests: Vec::new(),
            sources: Vec::new(),
            program_types: None,
            calls: None,
            effects: None,
            tasks: None,
            memory_mib: None,
            total_memory_mib: None,
            sink_folders: vec![SINKS.into()],
            cpu_percent: None,
            total_cpu_percent: None,
            events_per_second: None,
            total_events_per_second: None,
            uprobe_folders: None,
            cgroup_folders: None,
        }
    }
}

/// Reads the file. The error is one line with its path.
pub fn read(path: &Path) -> Result<Rules, String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    eunomia_owner::check(path)?;
    let about = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(failed(format!("not a regular file of at most {MAX_FILE} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    parse(&text).map_err(failed)
}

/// Reads the text of the file.
pub fn parse(text: &str) -> Result<Rules, String> {
    let mut rules: Rules = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let message = error.message().replace('\n', " ");
        format!("line {}: {message}", before.matches('\n').count() + 1)
    })?;
    for digest in &mut rules.digests {
        *digest = match digest.strip_prefix("sha256:") {
            Some(digits) if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                digits.to_ascii_lowercase()
            }
            _ => return Err(format!("digests: {digest:?} is not sha256: and 64 hexadecimal digits")),
        };
    }
    let folders = [
        ("keys", Some(vec![rules.keys.clone()])),
        ("sink_folders", Some(rules.sink_folders.clone())),
        ("uprobe_folders", rules.uprobe_folders.clone()),
        ("cgroup_folders", rules.cgroup_folders.clone()),
    ];
    for (rule, folders) in folders {
        if let Some(folder) = folders.iter().flatten().find(|folder| !folder.is_absolute()) {
            return Err(format!("{rule}: {folder:?} is not an absolute path"));
        }
    }
    if let Some(source) = rules.sources.iter().find(|source| !is_place(source)) {
        return Err(format!(
            "sources: {source:?} is neither https://HOST/PATH/ nor oci://REGISTRY/PATH/ with a slash at its end"
        ));
    }
    Ok(rules)
}

/// Whether a text names a host and ends with a slash, so that every URL that begins with it is on that host and below that path.
fn is_place(source: &str) -> bool {
    let rest = ["https://", "http://", "oci://"].iter().find_map(|scheme| source.strip_prefix(scheme));
    rest.and_then(|rest| rest.split_once('/')).is_some_and(|(host, path)| {
        !host.is_empty() && !host.contains('@') && (path.is_empty() || path.ends_with('/'))
    })
}
