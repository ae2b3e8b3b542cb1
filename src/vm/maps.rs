//! Maps by name and by index.

use std::ffi::{CStr, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::batch::{Batch, BatchSink};
use super::callback_sink::CallbackSink;
use super::event::{Event, Flow, Format, outcome};
use super::state::{Vm, json_text, out_of_range};
use crate::bpf::entries::Entries;
use crate::bpf::map::{Map, map_error};
use crate::bpf::session::Session;
use crate::bpf::source::{Shape, Sink};
use crate::error::{Error, Result, Status};
use crate::os;
use crate::types::Type;

/// A map of the package.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MapInfo {
    /// Its name.
    pub name: Arc<CStr>,
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// The size of a key in bytes.
    pub key_size: u32,
    /// The size of a value in bytes; of a per-CPU map, the value of one CPU.
    pub value_size: u32,
    /// The capacity in entries; for a ring buffer, in bytes.
    pub max_entries: u32,
    /// The number of values per key: 1, or the number of possible CPUs. The values of a per-CPU map take
    /// `cpus * value_size.next_multiple_of(8)` bytes.
    pub cpus: u32,
    /// The kernel memory in bytes that the map uses when it is full, as [`map_bytes`](crate::vm::map_bytes) computes it. 0
    /// if load does not create it.
    pub bytes: u64,
    /// The type of the key, if the object specifies it.
    pub key_type: Option<Arc<Type>>,
    /// The type of the value, if the object specifies it.
    pub value_type: Option<Arc<Type>>,
    /// The descriptor of the map, or -1 before load. It belongs to the vm: do not close it.
    pub fd: RawFd,
}

impl Vm {
    /// Returns the number of maps. Maps of data sections are included.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// for index in 0..vm.map_count()? {
    ///     let map = vm.map_at(index)?;
    ///     println!("{:?}: {} entries, {} bytes of kernel memory", map.name, map.max_entries, map.bytes);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_count(&self) -> Result<usize> {
        Ok(self.inner()?.session()?.maps().len())
    }

    /// Returns the map at `index`, in the order of the object. `Err(NotFound)` if `index` is out of range.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// println!("{:?}", vm.map_at(0)?.name);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_at(&self, index: usize) -> Result<MapInfo> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.maps().len();
        let map = session.maps().get(index).ok_or_else(|| out_of_range("map", index, count))?;
        Ok(map_info(session, map))
    }

    /// Returns the map called `name`. `Err(NotFound)` if there is none.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let map = vm.map_find("counts")?;
    /// let mut value = vec![0; map.value_size as usize];
    /// vm.map_get("counts", &1_u32.to_ne_bytes(), &mut value)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_find(&self, name: &str) -> Result<MapInfo> {
        let inner = self.inner()?;
        let session = inner.session()?;
        session.map(name).map(|map| map_info(session, map))
    }

    /// Sets the capacity of a map: its entries, the bytes of a ring buffer (rounded up to a power of two, at least a page), or the
    /// pages of an arena. Before load only. [`MapInfo::max_entries`] is the resulting value.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.map_set_max_entries("events", 1 << 20)?;
    /// vm.load()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_set_max_entries(&self, map: &str, count: u32) -> Result<()> {
        self.inner()?.session_mut()?.set_max_entries(map, count)
    }

    /// Returns the path at which load pins the map at `index`, or `None` if it does not pin it. If a map is pinned there
    /// already, load uses that map.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// if let Some(path) = vm.map_pin_path_at(0)? {
    ///     println!("pinned at {}", path.display());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_pin_path_at(&self, index: usize) -> Result<Option<PathBuf>> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.maps().len();
        let path = (index < count).then(|| session.pin_path(index));
        let path = path.ok_or_else(|| out_of_range("map", index, count))?;
        Ok(path.map(|path| OsStr::from_bytes(path.to_bytes()).into()))
    }

    /// Returns the number by which the instructions of a loaded program refer to the map at `index`; `None` before load.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.load()?;
    /// let (code, number) = (vm.prog_code_at(0)?, vm.map_number_at(0)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_number_at(&self, index: usize) -> Result<Option<RawFd>> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.maps().len();
        if index < count { Ok(session.map_number(index)) } else { Err(out_of_range("map", index, count)) }
    }

    fn map(&self, name: &str) -> Result<Arc<Map>> {
        self.inner()?.session()?.map(name).map(Arc::clone)
    }

    /// Copies the value of `key` into `value`. Both must have the sizes of [`MapInfo`]; `value` of a per-CPU map holds the
    /// values of all CPUs.
    ///
    /// The package must be loaded, as for every call that reads or changes the entries of a map.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`] if there is no such map or key.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let mut count = [0; 8];
    /// vm.map_get("counts", &1_u32.to_ne_bytes(), &mut count)?;
    /// println!("{}", u64::from_ne_bytes(count));
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_get(&self, map: &str, key: &[u8], value: &mut [u8]) -> Result<()> {
        self.map(map)?.get(key, value)
    }

    /// Stores `value` for `key`. `flags` is `BPF_ANY` (0: create or replace), `BPF_NOEXIST` (1: create only) or `BPF_EXIST`
    /// (2: replace only).
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.map_set("limits", &1_u32.to_ne_bytes(), &100_u64.to_ne_bytes(), 0)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_set(&self, map: &str, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.map(map)?.set(key, value, flags)
    }

    /// Deletes the entry of `key`. `Err(NotFound)` if there is none.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.map_del("limits", &1_u32.to_ne_bytes())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_del(&self, map: &str, key: &[u8]) -> Result<()> {
        self.map(map)?.delete(key)
    }

    /// Stores the key that follows `key` in `next`, or the first key if `key` is `None`. `Err(NotFound)` after the last
    /// one.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let (mut key, mut next) = (None, [0; 4]);
    /// while vm.map_next("counts", key.as_ref().map(|key: &[u8; 4]| &key[..]), &mut next).is_ok() {
    ///     println!("{}", u32::from_ne_bytes(next));
    ///     key = Some(next);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_next(&self, map: &str, key: Option<&[u8]>, next: &mut [u8]) -> Result<()> {
        self.map(map)?.next(key, next)
    }

    /// Returns the value of a JSON key as JSON; for a per-CPU map, an array with the value of each CPU.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// println!("{}", vm.map_get_json("counts", r#"{"pid": 1}"#)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_get_json(&self, map: &str, key: &str) -> Result<String> {
        self.map(map)?.get_json(key).map(json_text)
    }

    /// Stores a JSON value for a JSON key. A per-CPU map takes one value for all CPUs, or an array with one for each. See
    /// [`Vm::map_set`] for `flags`.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.map_set_json("limits", r#"{"uid": 0}"#, "100", 0)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_set_json(&self, map: &str, key: &str, value: &str, flags: u64) -> Result<()> {
        self.map(map)?.set_json(key, value, flags)
    }

    /// Deletes the entry of a JSON key. `Err(NotFound)` if there is none.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.map_del_json("limits", r#"{"uid": 0}"#)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_del_json(&self, map: &str, key: &str) -> Result<()> {
        self.map(map)?.delete_json(key)
    }

    /// Passes each entry of a map to `callback`, as an event of the kind [`EventKind::MapEntry`](crate::EventKind::MapEntry).
    /// Returns the number of entries passed. The statistics do not count these events.
    ///
    /// ```no_run
    /// use eunomia::{Flow, Format};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.map_each("limits", Format::Json, |entry| {
    ///     println!("{}", String::from_utf8_lossy(entry.data)); // {"key":{"uid":0},"value":100}
    ///     Flow::Continue
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_each(
        &self,
        map: &str,
        format: Format,
        mut callback: impl FnMut(&Event<'_>) -> Flow,
    ) -> Result<usize> {
        let (inner, mut delivery) = self.exclusive()?;
        let map = Arc::clone(inner.session()?.map(map)?);
        drop(inner);
        let _polling = self.shared.stop.polling();
        let mut scratch = delivery.scratch.take().unwrap_or_default();
        let mut sink = CallbackSink::new(format, &mut scratch, None, &mut callback);
        sink.read_at(os::monotonic_ns());
        let walked = walk(&map, &mut sink);
        let (count, ended) = (sink.events as usize, sink.ended);
        delivery.scratch = Some(scratch);
        walked?;
        outcome(ended, count)
    }

    /// Packs all entries of a map into `buf` and returns their number; `batch` describes them, as after [`Vm::read`].
    ///
    /// # Errors
    ///
    /// [`Status::TooSmall`] if they do not fit; `batch.need` is the number of bytes that they need.
    ///
    /// ```no_run
    /// use eunomia::Format;
    /// use eunomia::vm::Batch;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let (mut batch, mut buffer) = (Batch::default(), vec![0; 1 << 16]);
    /// vm.map_dump("counts", Format::Raw, &mut buffer, &mut batch)?;
    /// for entry in batch.records(&buffer) {
    ///     println!("{:?}: {:?}", entry.key, entry.data);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_dump(&self, map: &str, format: Format, buf: &mut [u8], batch: &mut Batch) -> Result<usize> {
        let map = self.map(map)?;
        let capacity = buf.len();
        let mut line = Vec::new();
        let mut sink = BatchSink::new(format, buf, &mut line).measuring();
        sink.read_at(os::monotonic_ns());
        walk(&map, &mut sink)?;
        *batch = sink.batch;
        if batch.need > capacity {
            batch.count = 0;
            batch.len = 0;
            return Err(map.about(Error::new(
                Status::TooSmall,
                format_args!("needs {} bytes, the buffer has {capacity}", batch.need),
            )));
        }
        Ok(batch.count)
    }
}

/// Passes the entries of a map to `sink`, as if the map were a source.
fn walk(map: &Arc<Map>, sink: &mut impl Sink) -> Result<()> {
    map.fd()?;
    let shape = Shape::of_map(map);
    let mut entries = Entries::new(&shape.map, false);
    let mut go_on = true;
    let mut over = false;
    while go_on && !over {
        over = entries
            .step(&shape.map, |key, value| {
                go_on = sink.entry(&shape, key, value);
                go_on
            })
            .map_err(|e| map_error(&shape.map, "walk", e))?;
    }
    Ok(())
}

fn map_info(session: &Session, map: &Map) -> MapInfo {
    MapInfo {
        name: Arc::clone(&map.name),
        kind: map.kind,
        key_size: map.key.size as u32,
        value_size: map.value.size as u32,
        max_entries: map.max_entries,
        cpus: map.cpus as u32,
        bytes: session.map_bytes(map),
        key_type: map.key.ty().map(Arc::clone),
        value_type: map.value.ty().map(Arc::clone),
        fd: map.fd().map_or(-1, |fd| fd.fd()),
    }
}
