//! The objects that a guest has loaded, by handle, and their maps, by number.
//!
//! Handles and map numbers are indices into tables of this guest. The guest sees no descriptor of the host and cannot name
//! one. As with descriptors, the numbers of closed objects are used again.

use std::sync::Arc;

use crate::bpf::map::Map;
use crate::bpf::session::Session;
use crate::bpf::source::Sources;
use crate::error::{Error, Result, Status};

/// Maximum number of objects that one guest can have at a time.
const MAX_OBJECTS: usize = 64;
/// The first map number. Programs expect numbers like those of descriptors, of which the first three are in use.
const FIRST_MAP: usize = 3;

/// A result, or a positive errno for the guest.
type ErrnoResult<T> = std::result::Result<T, i32>;

/// The objects of a guest.
#[derive(Default)]
pub struct Objects {
    /// By handle - 1.
    list: Vec<Option<Object>>,
    /// Maps that the guest has asked for, by number - `FIRST_MAP`: indices of the object and of its map.
    maps: Vec<Option<(usize, usize)>>,
}

/// A loaded object.
pub struct Object {
    pub session: Session,
    /// The buffers that have been polled, by the index of their map; `None` while they are polled.
    sources: Vec<(usize, Option<Sources>)>,
}

impl Objects {
    /// The packages of all objects.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.list.iter().flatten().map(|object| &object.session)
    }

    /// Returns an error if the guest has as many objects as it can have.
    pub fn check_count(&self) -> Result<()> {
        if self.list.iter().flatten().count() >= MAX_OBJECTS {
            return Err(Error::new(
                Status::Inval,
                format_args!("a guest can have at most {MAX_OBJECTS} objects"),
            ));
        }
        Ok(())
    }

    /// Adds a loaded object and returns its handle.
    pub fn add(&mut self, session: Session) -> u64 {
        insert(&mut self.list, Object { session, sources: Vec::new() }) as u64 + 1
    }

    /// Returns the object with that handle.
    pub fn object(&mut self, handle: u64) -> ErrnoResult<&mut Object> {
        self.list.get_mut(index(handle)?).and_then(Option::as_mut).ok_or(libc::EINVAL)
    }

    /// Removes an object, unless one of its buffers is being polled.
    pub fn remove(&mut self, handle: u64) -> ErrnoResult<Option<Object>> {
        let object = self.object(handle)?;
        if object.sources.iter().any(|(_, sources)| sources.is_none()) {
            return Err(libc::EBUSY);
        }
        let removed = index(handle)?;
        self.maps.iter_mut().for_each(|map| *map = map.filter(|(object, _)| *object != removed));
        Ok(self.list[removed].take())
    }

    /// Returns the number of the map with that name.
    pub fn map_number(&mut self, handle: u64, name: &[u8]) -> ErrnoResult<i32> {
        let maps = self.object(handle)?.session.maps();
        let map = maps.iter().position(|map| map.name.to_bytes() == name).ok_or(libc::ENOENT)?;
        let entry = (index(handle)?, map);
        let existing = self.maps.iter().position(|existing| *existing == Some(entry));
        let index = existing.unwrap_or_else(|| insert(&mut self.maps, entry));
        i32::try_from(index + FIRST_MAP).map_err(|_| libc::EMFILE)
    }

    /// Returns the map with that number.
    pub fn map(&self, number: u32) -> ErrnoResult<&Arc<Map>> {
        let (object, map) = self.find_map(number)?;
        let object = self.list[object].as_ref().ok_or(libc::EBADF)?;
        object.session.maps().get(map).ok_or(libc::EBADF)
    }

    /// Returns the index of a map within an object.
    pub fn map_index(&self, handle: u64, number: u32) -> ErrnoResult<usize> {
        let (object, map) = self.find_map(number)?;
        if object == index(handle)? { Ok(map) } else { Err(libc::EINVAL) }
    }

    fn find_map(&self, number: u32) -> ErrnoResult<(usize, usize)> {
        let entry = (number as usize).checked_sub(FIRST_MAP).and_then(|index| self.maps.get(index));
        entry.copied().flatten().ok_or(libc::EBADF)
    }
}

impl Object {
    /// Takes the buffer of a map, to poll it; `None` if it is polled for the first time and has to be opened.
    pub fn take_sources(&mut self, map: usize) -> ErrnoResult<Option<Sources>> {
        match self.sources.iter_mut().find(|(index, _)| *index == map) {
            Some((_, sources)) => sources.take().map(Some).ok_or(libc::EBUSY),
            None => Ok(None),
        }
    }

    /// Opens the buffer of a map, to poll it.
    pub fn open_sources(&mut self, map: usize) -> Result<Sources> {
        let opened = self.session.open_source(map)?;
        self.sources.push((map, None));
        Ok(opened)
    }

    /// Puts back what `take_sources` or `open_sources` returned.
    pub fn put_back(&mut self, map: usize, polled: Sources) {
        if let Some((_, sources)) = self.sources.iter_mut().find(|(index, _)| *index == map) {
            *sources = Some(polled);
        }
    }
}

/// Returns the index of an object.
fn index(handle: u64) -> ErrnoResult<usize> {
    usize::try_from(handle).ok().and_then(|handle| handle.checked_sub(1)).ok_or(libc::EINVAL)
}

/// Inserts an item into the first gap of a list. Returns its index.
fn insert<T>(list: &mut Vec<Option<T>>, item: T) -> usize {
    let index = list.iter().position(Option::is_none).unwrap_or_else(|| {
        list.push(None);
        list.len() - 1
    });
    list[index] = Some(item);
    index
}
