//! Maps by name and by number.

use std::ffi::{CStr, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::batch::{Batch, BatchSink};
use super::callback_sink::CallbackSink;
use super::event::{EventFn, Format, end_of};
use super::state::{Vm, json_text, out_of_range};
use crate::bpf::entries::Entries;
use crate::bpf::map::{Map, map_error};
use crate::bpf::session::Session;
use crate::bpf::source::{Shape, Sink};
use crate::error::{Error, Result, Status};
use crate::os;
use crate::types::Type;

/// What is known about a map.
#[derive(Clone)]
pub struct MapInfo {
    /// Its name.
    pub name: Arc<CStr>,
    /// BPF_MAP_TYPE_*.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (of one CPU).
    pub value_size: u32,
    /// Entries at most; bytes for a ring buffer.
    pub max_entries: u32,
    /// Values per key: 1, or one per possible CPU; these take `cpus * round_up(value_size, 8)` bytes.
    pub cpus: u32,
    /// Bytes of kernel memory when it is full, by the rules of [`crate::vm::map_bytes`]; 0 if load does not make it.
    pub bytes: u64,
    /// Type of the key, if the object tells.
    pub key_type: Option<Arc<Type>>,
    /// Type of the value, if the object tells.
    pub value_type: Option<Arc<Type>>,
    /// The descriptor, -1 before load; it belongs to the vm.
    pub fd: RawFd,
}

impl Vm {
    /// Number of maps, those of data sections included.
    pub fn map_count(&self) -> Result<usize> {
        Ok(self.inner()?.session()?.maps().len())
    }

    /// Map number `index`.
    pub fn map_at(&self, index: usize) -> Result<MapInfo> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.maps().len();
        let map = session.maps().get(index).ok_or_else(|| out_of_range("map", index, count))?;
        Ok(map_info(session, map))
    }

    /// The map of that name.
    pub fn map_find(&self, name: &str) -> Result<MapInfo> {
        let inner = self.inner()?;
        let session = inner.session()?;
        session.map(name).map(|map| map_info(session, map))
    }

    /// Sets how many entries a map has, the bytes of a ring buffer (rounded up to a power of two of pages), the pages of an
    /// arena; before load. [`MapInfo::max_entries`] has the outcome.
    pub fn map_set_max_entries(&self, map: &str, count: u32) -> Result<()> {
        self.inner()?.session_mut()?.set_max_entries(map, count)
    }

    /// Where map number `index` is pinned when it is loaded; `None` if nowhere. What is pinned there already is used in its
    /// place.
    pub fn map_pin_path_at(&self, index: usize) -> Result<Option<PathBuf>> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.maps().len();
        let path = (index < count).then(|| session.pin_path(index));
        let path = path.ok_or_else(|| out_of_range("map", index, count))?;
        Ok(path.map(|path| OsStr::from_bytes(path.to_bytes()).into()))
    }

    /// The number by which a loaded program's instructions name map number `index`; `None` before load.
    pub fn map_number_at(&self, index: usize) -> Result<Option<RawFd>> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.maps().len();
        if index < count { Ok(session.map_number(index)) } else { Err(out_of_range("map", index, count)) }
    }

    fn map(&self, name: &str) -> Result<Arc<Map>> {
        self.inner()?.session()?.map(name).map(Arc::clone)
    }

    /// Copies the value of `key`; all CPUs of a per-CPU map.
    pub fn map_get(&self, map: &str, key: &[u8], value: &mut [u8]) -> Result<()> {
        self.map(map)?.get(key, value)
    }

    /// Stores a value; `flags` are BPF_ANY (0), BPF_NOEXIST (1), BPF_EXIST (2).
    pub fn map_set(&self, map: &str, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.map(map)?.set(key, value, flags)
    }

    /// Removes an entry.
    pub fn map_del(&self, map: &str, key: &[u8]) -> Result<()> {
        self.map(map)?.delete(key)
    }

    /// The key after `key` (`None`: the first); `Err(NotFound)` at the end.
    pub fn map_next(&self, map: &str, key: Option<&[u8]>, next: &mut [u8]) -> Result<()> {
        self.map(map)?.next(key, next)
    }

    /// The value of a JSON key, as JSON; of a per-CPU map an array.
    pub fn map_get_json(&self, map: &str, key: &str) -> Result<String> {
        self.map(map)?.get_json(key).map(json_text)
    }

    /// Stores a JSON value under a JSON key; a per-CPU map takes one value for all CPUs or an array.
    pub fn map_set_json(&self, map: &str, key: &str, value: &str, flags: u64) -> Result<()> {
        self.map(map)?.set_json(key, value, flags)
    }

    /// Removes the entry of a JSON key.
    pub fn map_del_json(&self, map: &str, key: &str) -> Result<()> {
        self.map(map)?.delete_json(key)
    }

    /// Calls back for each entry and says for how many. These are no events: the counters do not include them.
    ///
    /// ```no_run
    /// use eunomia::{Event, Flow, Format, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = Vm::new(Options::default())?;
    /// vm.map_set_json("limits", "{\"uid\":0}", "100", 0)?;
    /// vm.map_each("limits", Format::Json, &mut |entry: &Event| {
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
        callback: &mut (impl EventFn + ?Sized),
    ) -> Result<usize> {
        let (inner, mut delivery) = self.exclusive()?;
        let map = Arc::clone(inner.session()?.map(map)?);
        drop(inner);
        let mut scratch = std::mem::take(&mut delivery.scratch);
        let mut deliver = CallbackSink::new(format, &mut scratch, None, callback);
        deliver.read_at(os::monotonic_ns());
        let walked = walk(&map, &mut deliver);
        let (count, ended) = (deliver.events as usize, deliver.ended);
        delivery.scratch = scratch;
        walked?;
        end_of(ended, count)
    }

    /// Packs all entries into `buf`; `Err(TooSmall)` with `batch.need` if they do not fit.
    pub fn map_dump(&self, map: &str, format: Format, buf: &mut [u8], batch: &mut Batch) -> Result<usize> {
        let map = self.map(map)?;
        let room = buf.len();
        let mut line = Vec::new();
        let mut reader = BatchSink::new(format, buf, &mut line).measuring();
        reader.read_at(os::monotonic_ns());
        walk(&map, &mut reader)?;
        *batch = reader.batch;
        if batch.need > room {
            batch.count = 0;
            batch.len = 0;
            let needed = format_args!("needs {} bytes, the buffer has {room}", batch.need);
            return Err(map.about(Error::new(Status::TooSmall, needed)));
        }
        Ok(batch.count)
    }
}

/// Walks a map as if it were a source.
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
