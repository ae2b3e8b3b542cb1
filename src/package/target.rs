//! The targets of programs, as far as their sections do not specify them: interfaces, paths, cgroups, perf events.
//!
//! A target has the same keys in the `progs[]` entries of a package and in the JSON that a host passes. Whether an
//! interface or a path exists is not checked here, but when the program is attached.

use serde_json::Value;

use super::json_value::Node;
use crate::error::Result;

/// `IFNAMSIZ` without the NUL.
const MAX_INTERFACE_NAME: usize = 15;
/// `PATH_MAX`, the NUL included.
const MAX_PATH: usize = 4096;

/// The place where a program attaches. An empty target means that its section specifies everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// A section name that replaces the object's; only from [`Target::parse`].
    pub attach: Option<String>,
    /// The interface for xdp and tc.
    pub interface: Option<Interface>,
    /// Flags of an xdp attachment.
    pub flags: u32,
    /// The hook of a tc program.
    pub tc: Tc,
    /// The binary of a uprobe.
    pub path: Option<String>,
    /// The function of a kprobe or uprobe; an offset may follow, see [`split_offset`].
    pub func: Option<String>,
    /// An offset in bytes in the function. For a uprobe without a function, an offset in the file.
    pub offset: Option<u64>,
    /// The address of a uprobe, as disassemblers and symbol tables show it, instead of a function.
    pub address: Option<u64>,
    /// The build id that the binary of a uprobe must have, in lower-case hexadecimal digits. With a process and no path it
    /// selects one of the files that the process has mapped.
    pub build_id: Option<String>,
    /// The process of a uprobe or perf event; -1 for all.
    pub pid: Option<i32>,
    /// The path of a cgroup.
    pub cgroup: Option<String>,
    /// The event of a perf_event program; the default is the software clock at 99 Hz.
    pub perf: Option<Perf>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interface {
    /// By its index, from 1.
    Index(u32),
    /// By its name.
    Name(String),
}

/// The hook of a tc program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tc {
    /// The direction.
    pub point: TcPoint,
    /// The handle, by default 1.
    pub handle: u32,
    /// The priority, by default 1.
    pub priority: u32,
}

impl Default for Tc {
    fn default() -> Tc {
        Tc { point: TcPoint::Ingress, handle: 1, priority: 1 }
    }
}

/// The direction of a tc hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcPoint {
    /// Incoming packets.
    #[default]
    Ingress,
    /// Outgoing packets.
    Egress,
    /// A custom parent.
    Custom,
}

/// The event of a perf_event program, see perf_event_open(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Perf {
    /// `PERF_TYPE_*`.
    pub kind: u32,
    /// The event within that type.
    pub config: u64,
    /// The frequency or period of its samples.
    pub sample: PerfSample,
}

/// The frequency or period of a perf event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PerfSample {
    /// A number of times per second.
    Frequency(u64),
    /// Once per this number of events.
    Period(u64),
}

const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const DEFAULT_FREQUENCY: PerfSample = PerfSample::Frequency(99);

const PERF_TYPES: &[(&str, u32)] =
    &[("hardware", HARDWARE), ("software", SOFTWARE), ("tracepoint", 2), ("raw", 4)];

/// The event names of perf(1) with their numbers, by type. Each is one string, because an array takes twice the space.
const PERF_EVENTS: [(u32, &str); 2] = [
    (
        HARDWARE,
        "cycles=0 cpu-cycles=0 instructions=1 cache-references=2 cache-misses=3 branches=4 \
         branch-instructions=4 branch-misses=5 bus-cycles=6 stalled-cycles-frontend=7 \
         stalled-cycles-backend=8 ref-cycles=9",
    ),
    (
        SOFTWARE,
        "cpu-clock=0 task-clock=1 page-faults=2 context-switches=3 cpu-migrations=4 \
         minor-faults=5 major-faults=6 alignment-faults=7 emulation-faults=8 dummy=9 \
         bpf-output=10 cgroup-switches=11",
    ),
];

/// The keys of a target from a host. An entry of a package has other keys as well.
const HOST_KEYS: &str = "attach, path, func, offset, address, build_id, pid, cgroup, perf_event, interface, ifindex, flags, tchook, tcopts";

impl Target {
    /// Reads the targets that a host passes: one object or an array of them. `path` is the path in messages.
    pub fn parse(value: &Value, path: &str) -> Result<Vec<Target>> {
        let node = Node::new(value, path);
        let nodes = if value.is_array() { node.elements()? } else { vec![node] };
        let mut targets = Vec::with_capacity(nodes.len());
        for node in nodes {
            targets.push(host_target(node)?);
        }
        Ok(targets)
    }

    /// Returns the keys in it that specify where a probe, a perf event or a cgroup program attaches.
    pub fn attach_keys(&self) -> impl Iterator<Item = &'static str> {
        let Target { path, func, offset, address, build_id, pid, cgroup, perf, .. } = self;
        let given = [
            ("path", path.is_some()),
            ("func", func.is_some()),
            ("offset", offset.is_some()),
            ("address", address.is_some()),
            ("build_id", build_id.is_some()),
            ("pid", pid.is_some()),
            ("cgroup", cgroup.is_some()),
            ("perf_event", perf.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key)
    }

    pub(super) fn read(node: &Node) -> Result<Target> {
        let hook = node.get("tchook").map(Node::object).transpose()?;
        hook.as_ref().map_or(Ok(()), |hook| hook.check_keys("ifindex, attach_point"))?;
        if let Some(other) = node.get("address").and(node.get("func").or_else(|| node.get("offset"))) {
            return Err(other.error("cannot be combined with address"));
        }
        Ok(Target {
            attach: None,
            interface: interface(node, hook.as_ref())?,
            flags: node.optional_u32("flags", 0)?.unwrap_or(0),
            tc: tc(node, hook.as_ref())?,
            path: node.optional("path", path)?,
            func: node.optional_name("func")?,
            offset: node.optional("offset", address)?,
            address: node.optional("address", address)?,
            build_id: node.optional("build_id", build_id)?,
            pid: node.optional("pid", |pid| pid.i32())?,
            cgroup: node.optional("cgroup", path)?,
            perf: node.optional("perf_event", perf)?,
        })
    }
}

fn host_target(node: Node) -> Result<Target> {
    let node = node.object()?;
    node.check_keys(HOST_KEYS)?;
    let attach = node.optional_name("attach")?;
    Ok(Target { attach, ..Target::read(&node)? })
}

/// Returns the interface. The compiler of eunomia-bpf writes index 1 into every xdp and tc program. A name next to it
/// was added on purpose and takes precedence.
fn interface(node: &Node, hook: Option<&Node>) -> Result<Option<Interface>> {
    let found = node.get("interface").or_else(|| hook?.get("ifindex")).or_else(|| node.get("ifindex"));
    let Some(node) = found else { return Ok(None) };
    match node.value {
        Value::String(name) if name.len() > MAX_INTERFACE_NAME => {
            Err(node.error(format_args!("an interface name has at most {MAX_INTERFACE_NAME} bytes")))
        }
        Value::String(_) => Ok(Some(Interface::Name(node.name()?))),
        Value::Number(_) => Ok(Some(Interface::Index(node.u32_at_least(1)?))),
        _ => Err(node.expected("the index or name of an interface")),
    }
}

fn tc(node: &Node, hook: Option<&Node>) -> Result<Tc> {
    let point = match hook.and_then(|hook| hook.get("attach_point")) {
        None => TcPoint::default(),
        Some(point) => match point.value.as_str() {
            Some("BPF_TC_INGRESS") => TcPoint::Ingress,
            Some("BPF_TC_EGRESS") => TcPoint::Egress,
            Some("BPF_TC_CUSTOM") => TcPoint::Custom,
            _ => return Err(point.expected("BPF_TC_INGRESS, BPF_TC_EGRESS or BPF_TC_CUSTOM")),
        },
    };
    let Some(options) = node.get("tcopts") else { return Ok(Tc { point, ..Tc::default() }) };
    let options = options.object()?;
    options.check_keys("handle, priority")?;
    Ok(Tc {
        point,
        handle: options.optional_u32("handle", 0)?.unwrap_or(1),
        priority: options.optional_u32("priority", 0)?.unwrap_or(1),
    })
}

fn perf(node: &Node) -> Result<Perf> {
    let node = node.object()?;
    node.check_keys("type, config, frequency, period")?;
    let kind = node.optional("type", perf_type)?;
    let (kind, config) = match node.get("config") {
        Some(config) => perf_config(&config, kind)?,
        None => match kind {
            None | Some(SOFTWARE) => (SOFTWARE, 0),
            Some(HARDWARE) => (HARDWARE, 0),
            Some(_) => return Err(node.missing("config")),
        },
    };
    let sample = match (node.get("frequency"), node.get("period")) {
        (Some(_), Some(period)) => return Err(period.error("cannot be combined with frequency")),
        (Some(frequency), None) => PerfSample::Frequency(frequency.u64_at_least(1)?),
        (None, Some(period)) => PerfSample::Period(period.u64_at_least(1)?),
        (None, None) => DEFAULT_FREQUENCY,
    };
    Ok(Perf { kind, config, sample })
}

fn perf_type(node: &Node) -> Result<u32> {
    let Some(text) = node.value.as_str() else { return node.u32_at_least(0) };
    let found = PERF_TYPES.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
    found.ok_or_else(|| node.expected("hardware, software, tracepoint, raw or a number"))
}

fn perf_config(node: &Node, kind: Option<u32>) -> Result<(u32, u64)> {
    let Some(text) = node.value.as_str() else {
        return Ok((kind.unwrap_or(SOFTWARE), node.u64_at_least(0)?));
    };
    for (ty, events) in PERF_EVENTS.iter().filter(|(ty, _)| kind.is_none_or(|kind| kind == *ty)) {
        for (name, config) in events.split(' ').filter_map(|event| event.split_once('=')) {
            if name == text {
                return Ok((*ty, config.parse().unwrap_or_default()));
            }
        }
    }
    Err(node.expected("a number or the name of an event of that type"))
}

/// Reads an offset or address: a number, or a string with a decimal or hexadecimal (`0x`) number.
fn address(node: &Node) -> Result<u64> {
    match node.value.as_str() {
        Some(text) => parse_integer(text).ok_or_else(|| node.expected("a whole number")),
        None => node.u64_at_least(0),
    }
}

/// Parses a decimal or hexadecimal (`0x`) number.
fn parse_integer(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Splits a string such as `main+0x1c` into the function and the offset.
pub fn split_offset(func: &str) -> (&str, u64) {
    let split = func.rsplit_once('+').and_then(|(name, offset)| Some((name, parse_integer(offset)?)));
    split.unwrap_or((func, 0))
}

fn build_id(node: &Node) -> Result<String> {
    let id = node.name()?;
    match id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        true => Ok(id),
        false => Err(node.expected("a build id in lower-case hexadecimal digits")),
    }
}

/// Reads a path: a C string that is neither empty nor too long.
fn path(node: &Node) -> Result<String> {
    let text = node.value.as_str().ok_or_else(|| node.expected("a path"))?;
    if text.is_empty() || text.len() >= MAX_PATH || text.contains('\0') {
        return Err(node.expected("a path"));
    }
    Ok(text.to_owned())
}
