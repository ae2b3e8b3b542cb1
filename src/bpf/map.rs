//! A map by name: its elements as bytes and as JSON, those of per-CPU maps included.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use serde_json::Value;

use super::constants::{ENOTSUPP, map_type};
use super::map_memory::{Machine, MapSize, map_bytes};
use super::sys::map::{MapFd, map_facts};
use super::sys::object::{MapRef, possible_cpus};
use crate::btf::Btf;
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::memory;
use crate::os::{self, Errno};
use crate::render::{Clock, Plan, hex_json};
use crate::types::{MemberFormats, Type, encode};

/// The format of a key or a value.
pub struct Form {
    /// Bytes of one key or value.
    pub size: usize,
    /// Its type and plan; `None` if the object does not declare the type, or the type exceeds the limits.
    pub plan: Option<Plan>,
    /// Whether the object declares the type.
    pub is_declared: bool,
}

impl Form {
    fn new(size: u32, type_id: u32, btf: &Btf, formats: &MemberFormats) -> Result<Form> {
        let size = size as usize;
        let ty = match type_id {
            0 => None,
            id => Some(formats.type_from_btf(btf, id)?).filter(|ty| ty.size == size),
        };
        let plan = ty.as_ref().map(Plan::new).transpose()?;
        Ok(Form { size, plan, is_declared: type_id != 0 })
    }

    /// Uses an unsigned number as the type, if the object does not declare one and the size fits.
    fn set_number(&mut self, type_id: u32) {
        let ty = Type::unsigned_int();
        if type_id == 0 && self.size == ty.size {
            self.plan = Plan::new(&ty).ok();
        }
    }

    /// Maximum size of a key or value as JSON, in bytes.
    fn longest(&self) -> usize {
        const AROUND_HEX: usize = 16;
        self.plan.as_ref().map_or(2 * self.size + AROUND_HEX, Plan::max_json_len)
    }

    /// Its type, if known.
    pub fn ty(&self) -> Option<&Arc<Type>> {
        self.plan.as_ref().map(Plan::ty)
    }

    /// Appends a key or value as JSON, or as `{"data":"<hex>"}` if its type is unknown.
    pub fn json(&self, bytes: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        match &self.plan {
            Some(plan) => plan.json(bytes, clock, out),
            None => hex_json(bytes, out),
        }
    }

    /// Converts a JSON value to bytes. If the type is unknown, the value has the format that `json` writes.
    fn bytes(&self, value: &Value) -> Result<Vec<u8>> {
        let mut bytes = memory::zeroed(self.size)?;
        match self.ty() {
            Some(ty) => encode(ty, value, &mut bytes)?,
            None => from_hex(value, &mut bytes)?,
        }
        Ok(bytes)
    }
}

/// A map of the object.
pub struct Map {
    /// Its name in libbpf, such as `prefix.rodata` for a data section.
    pub name: Arc<CStr>,
    /// BPF_MAP_TYPE_*.
    pub kind: u32,
    /// Maximum number of entries; bytes for a ring buffer.
    pub max_entries: u32,
    /// The format of its keys.
    pub key: Form,
    /// The format of its values (of one CPU).
    pub value: Form,
    /// BTF id of the value type that the object declares; 0 if it declares none. For a ring buffer, which has no values, it is
    /// the type of the records.
    pub value_type_id: u32,
    /// Values per key: 1, or the number of possible CPUs.
    pub cpus: usize,
    /// BPF_F_*.
    pub flags: u32,
    /// Whether it is a data section.
    pub is_internal: bool,
    extra: u64,
    /// The inner map of a map of maps.
    inner: Option<MapSize>,
    is_created: bool,
    fd: Option<Arc<MapFd>>,
}

impl Map {
    /// Describes a map before load.
    pub fn describe(raw: MapRef<'_>, btf: &Btf, formats: &MemberFormats, log: &Log) -> Result<Map> {
        let name = raw.name();
        let form = |what: &str, size: u32, type_id: u32| match Form::new(size, type_id, btf, formats) {
            Err(e) if e.status() == Status::Type => {
                log.write(
                    Level::Warn,
                    &format!("map {name:?}: its {what} is written as raw bytes in JSON: {e}"),
                );
                Ok(Form { size: size as usize, plan: None, is_declared: true })
            }
            made => made.map_err(|e| raw.about(e.at(what))),
        };
        let cpus = if is_per_cpu(raw.kind()) { possible_cpus() } else { Ok(1) };
        let cpus = cpus.map_err(|e| Error::sys(Status::System, e.0, format_args!("possible CPUs: {e}")))?;
        // The "type" of a data section is a DATASEC, which is not a type of values.
        let value_type = if raw.is_internal() { 0 } else { raw.value_type() };
        let mut key = form("key", raw.key_size(), raw.key_type())?;
        let mut value = form("value", raw.value_size(), value_type)?;
        let is_stacks = raw.kind() == map_type::STACK_TRACE && !raw.has_build_ids();
        if is_indexed(raw.kind()) || is_stacks {
            key.set_number(raw.key_type());
        }
        if matches!(raw.kind(), map_type::PROG_ARRAY | map_type::ARRAY_OF_MAPS | map_type::HASH_OF_MAPS) {
            value.set_number(value_type);
        }
        if let Some(stack) = Type::stack(value.ty().map(|ty| &**ty), raw.value_size()).filter(|_| is_stacks) {
            value.plan = Some(Plan::new(&stack)?);
        }
        Ok(Map {
            name: name.into(),
            kind: raw.kind(),
            max_entries: raw.max_entries(),
            key,
            value,
            value_type_id: value_type,
            cpus,
            flags: raw.flags(),
            is_internal: raw.is_internal(),
            extra: raw.extra(),
            inner: raw.inner().map(size),
            is_created: raw.autocreate(),
            fd: None,
        })
    }

    /// Takes sizes and descriptor from libbpf after load (libbpf rounds up the size of ring buffers and sets that of
    /// perf arrays).
    pub fn attach_fd(&mut self, raw: MapRef<'_>) -> Result<()> {
        let Some(fd) = raw.fd() else { return Ok(()) };
        let copy = os::duplicate(fd).map_err(|e| map_error(self, "descriptor", e))?;
        self.max_entries = raw.max_entries();
        self.fd = Some(Arc::new(MapFd::new(copy, self.key.size, self.value_len())));
        Ok(())
    }

    /// Uses a map that another process has created. Its size may differ from the definition.
    pub fn import_fd(&mut self, fd: OwnedFd) -> Result<()> {
        let facts = map_facts(fd.as_raw_fd()).map_err(|e| map_error(self, "exported descriptor", e))?;
        let given = (facts.kind, facts.key_size as usize, facts.value_size as usize);
        if given != (self.kind, self.key.size, self.value.size) {
            let text = "the exported descriptor is of a map of another type or of other sizes";
            return Err(self.about(Error::new(Status::Inval, text)));
        }
        self.max_entries = facts.max_entries;
        self.fd = Some(Arc::new(MapFd::new(fd, self.key.size, self.value_len())));
        Ok(())
    }

    /// The kernel's id; `None` before load.
    pub fn id(&self) -> Option<u32> {
        Some(map_facts(self.fd.as_ref()?.fd()).ok()?.id)
    }

    /// Closes the descriptor after the object has been opened again.
    pub fn detach_fd(&mut self, raw: MapRef<'_>) {
        self.max_entries = raw.max_entries();
        self.fd = None;
    }

    /// A number whose meaning depends on the type, such as the hash functions of a bloom filter.
    pub fn extra(&self) -> u64 {
        self.extra
    }

    /// Its name as a string.
    pub fn label(&self) -> std::borrow::Cow<'_, str> {
        self.name.to_string_lossy()
    }

    /// Adds this map to an error.
    #[cold]
    #[inline(never)]
    pub fn about(&self, error: Error) -> Error {
        error.about_map(&self.label())
    }

    /// Bytes of a value as the kernel copies it. Each per-CPU value is padded to 8 bytes.
    pub fn value_len(&self) -> usize {
        if is_per_cpu(self.kind) { self.cpus * self.value.size.next_multiple_of(8) } else { self.value.size }
    }

    /// Bytes of kernel memory of the full map, by the rules of `map_memory`; 0 if load does not create it.
    pub fn bytes(&self, perf_pages: u32, machine: &Machine) -> u64 {
        let &Map { kind, max_entries, extra, .. } = self;
        let (key_size, value_size) = (self.key.size as u32, self.value.size as u32);
        let own = MapSize { kind, key_size, value_size, max_entries, extra };
        let all = [Some(own).filter(|_| self.is_created), self.inner];
        let bytes = all.iter().flatten().map(|size| map_bytes(size, perf_pages, machine));
        bytes.fold(0, u64::saturating_add)
    }

    /// Returns the descriptor; fails with `State` before load.
    pub fn fd(&self) -> Result<&Arc<MapFd>> {
        let missing = || Error::new(Status::State, "does not exist before the package is loaded");
        self.fd.as_ref().ok_or_else(|| self.about(missing()))
    }

    /// Copies the value of a key to `value`.
    pub fn get(&self, key: &[u8], value: &mut [u8]) -> Result<()> {
        self.check_len("key", key.len(), self.key.size)?;
        self.check_len("value", value.len(), self.value_len())?;
        self.fd()?.lookup(key, value).map_err(|e| map_error(self, "lookup", e))
    }

    /// Stores a value.
    pub fn set(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.check_len("key", key.len(), self.key.size)?;
        self.check_len("value", value.len(), self.value_len())?;
        self.fd()?.update(key, value, flags).map_err(|e| map_error(self, "update", e))
    }

    /// Removes an entry.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.check_len("key", key.len(), self.key.size)?;
        self.fd()?.delete(key).map_err(|e| map_error(self, "delete", e))
    }

    /// Copies the key after `key` to `next`. Fails with `NotFound` at the end.
    pub fn next(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<()> {
        self.check_len("key", next.len(), self.key.size)?;
        key.map_or(Ok(()), |key| self.check_len("key", key.len(), self.key.size))?;
        self.fd()?.next_key(key, next).map_err(|e| map_error(self, "next key", e))
    }

    /// Returns the value of a JSON key, as JSON.
    pub fn get_json(&self, key: &str) -> Result<Vec<u8>> {
        let key = self.parse_key(key)?;
        let mut value = memory::zeroed(self.value_len())?;
        self.get(&key, &mut value)?;
        memory::check_available(self.cpus * self.value.longest())?;
        let mut out = Vec::new();
        self.value_json(&value, &Clock::new(os::boot_time), &mut out);
        Ok(out)
    }

    /// Stores a JSON value. For a per-CPU map it is an array with one value per CPU, or one value for all CPUs.
    pub fn set_json(&self, key: &str, value: &str, flags: u64) -> Result<()> {
        let key = self.parse_key(key)?;
        let value = self.parse("value", value)?;
        let at = |e: Error| self.about(e.at("value"));
        let bytes = if is_per_cpu(self.kind) {
            self.per_cpu_bytes(&value).map_err(at)?
        } else {
            self.value.bytes(&value).map_err(at)?
        };
        self.set(&key, &bytes, flags)
    }

    /// Removes the entry of a JSON key.
    pub fn delete_json(&self, key: &str) -> Result<()> {
        self.delete(&self.parse_key(key)?)
    }

    /// Appends a value as JSON. The value of a per-CPU map is an array with one element per CPU.
    pub fn value_json(&self, value: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        value_json(&self.value, is_per_cpu(self.kind), value, clock, out);
    }

    fn per_cpu_bytes(&self, value: &Value) -> Result<Vec<u8>> {
        let stride = self.value.size.next_multiple_of(8);
        let mut bytes = memory::zeroed(self.value_len())?;
        let is_array = self.value.ty().is_some_and(|ty| ty.elem.is_some());
        let values = match value {
            Value::Array(values) if !is_array || values.iter().all(Value::is_array) => {
                values.iter().collect()
            }
            one => vec![one; self.cpus],
        };
        if values.len() != self.cpus {
            let (given, cpus) = (values.len(), self.cpus);
            return Err(Error::new(Status::Type, format_args!("{given} values given for {cpus} CPUs")));
        }
        for (slot, value) in bytes.chunks_mut(stride.max(1)).zip(values) {
            slot[..self.value.size].copy_from_slice(&self.value.bytes(value)?);
        }
        Ok(bytes)
    }

    fn parse(&self, what: &str, json: &str) -> Result<Value> {
        let bad = |e| self.about(Error::new(Status::Inval, e).at(what));
        serde_json::from_slice(json.as_bytes()).map_err(bad)
    }

    fn parse_key(&self, key: &str) -> Result<Vec<u8>> {
        let value = self.parse("key", key)?;
        self.key.bytes(&value).map_err(|e| self.about(e.at("key")))
    }

    fn check_len(&self, what: &str, given: usize, expected: usize) -> Result<()> {
        if given == expected {
            return Ok(());
        }
        Err(self
            .about(Error::new(Status::Inval, format_args!("a {what} has {expected} bytes, {given} given"))))
    }
}

fn size(raw: MapRef<'_>) -> MapSize {
    MapSize {
        kind: raw.kind(),
        key_size: raw.key_size(),
        value_size: raw.value_size(),
        max_entries: raw.max_entries(),
        extra: raw.extra(),
    }
}

/// Appends a value as JSON. With `per_cpu` it is an array.
pub fn value_json(form: &Form, per_cpu: bool, value: &[u8], clock: &Clock, out: &mut Vec<u8>) {
    if !per_cpu {
        return form.json(value, clock, out);
    }
    out.push(b'[');
    for (cpu, value) in value.chunks(form.size.next_multiple_of(8).max(1)).enumerate() {
        if cpu > 0 {
            out.push(b',');
        }
        form.json(&value[..form.size], clock, out);
    }
    out.push(b']');
}

/// Whether each CPU has its own value.
pub fn is_per_cpu(map_kind: u32) -> bool {
    use map_type::*;
    matches!(map_kind, PERCPU_HASH | PERCPU_ARRAY | LRU_PERCPU_HASH | PERCPU_CGROUP_STORAGE)
}

/// Whether the keys are indexes. In other types of maps E2BIG means that the map is full.
fn is_indexed(map_kind: u32) -> bool {
    use map_type::*;
    matches!(
        map_kind,
        ARRAY
            | PROG_ARRAY
            | PERF_EVENT_ARRAY
            | PERCPU_ARRAY
            | CGROUP_ARRAY
            | ARRAY_OF_MAPS
            | DEVMAP
            | SOCKMAP
            | CPUMAP
            | XSKMAP
            | REUSEPORT_SOCKARRAY
    )
}

/// Whether keys or values of such a map are descriptors. A guest could use them to reach any file of the process.
pub fn holds_descriptors(map_kind: u32) -> bool {
    use map_type::*;
    let values = matches!(
        map_kind,
        PROG_ARRAY
            | PERF_EVENT_ARRAY
            | CGROUP_ARRAY
            | ARRAY_OF_MAPS
            | HASH_OF_MAPS
            | DEVMAP
            | DEVMAP_HASH
            | SOCKMAP
            | CPUMAP
            | XSKMAP
            | SOCKHASH
            | REUSEPORT_SOCKARRAY
            | STRUCT_OPS
    );
    // Storage of a socket, an inode, a task, a cgroup.
    values || matches!(map_kind, SK_STORAGE | INODE_STORAGE | TASK_STORAGE | CGRP_STORAGE)
}

/// The error of a map operation, with the status for its errno.
pub fn map_error(map: &Map, what: &str, e: Errno) -> Error {
    let errno = e.0;
    let status = match errno {
        libc::ENOENT => Status::NotFound,
        libc::EPERM => Status::Perm,
        libc::ENOMEM => Status::NoMem,
        libc::EINVAL => Status::Inval,
        ENOTSUPP | libc::EOPNOTSUPP => Status::Unsupported,
        _ => Status::System,
    };
    let reason = match errno {
        libc::ENOENT => "no such entry".into(),
        libc::EEXIST => "the key exists already".into(),
        libc::E2BIG if is_indexed(map.kind) => {
            format!("the index is out of range: there are {} entries", map.max_entries)
        }
        libc::E2BIG => format!("it is full: its capacity is {} entries", map.max_entries),
        ENOTSUPP => "this type of map does not support it".into(),
        _ => e.to_string(),
    };
    map.about(Error::sys(status, errno, format_args!("{what}: {reason}")))
}

/// Parses `{"data":"<hex>"}`.
fn from_hex(value: &Value, out: &mut [u8]) -> Result<()> {
    let expected_len = out.len();
    let bad = || {
        let digits = 2 * expected_len;
        let text = "the type is unknown or too large; expected";
        Error::new(Status::Type, format_args!("{text} {{\"data\":\"<{digits} hex digits>\"}}"))
    };
    let digits = value.get("data").and_then(Value::as_str).map(str::as_bytes).ok_or_else(bad)?;
    if digits.len() != 2 * expected_len {
        return Err(bad());
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16).ok_or_else(bad);
        *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
    }
    Ok(())
}
