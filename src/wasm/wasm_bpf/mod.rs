//! The second interface of guests: objects, maps and programs by handle, and events handed to a function of the table.
//!
//! Handles and map numbers are places in tables of this guest; a descriptor never leaves the library, and none gets in.
//! Failures are negative errno values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bpf::MapFd;
use crate::bpf::map::{Map, holds_descriptors};
use crate::bpf::session::Session;
use crate::bpf::source::{Shape, Sink, Sources};
use crate::error::{Error, Result, Status};
use crate::os;
use crate::package::{MAX_OBJECT, Package, compact, members};
use crate::wasm::CALLABLE;
use crate::wasm::Wake;
use crate::wasm::imports::{Args, Call, Table, table};
use crate::wasm::run::{End, Run};
use crate::wasm::sys::instance::{Function, Guest};

pub(super) const IMPORTS: Table = table![
    ("wasm_load_bpf_object(ii)I", load),
    ("wasm_close_bpf_object(I)i", close),
    ("wasm_attach_bpf_program(Iii)i", attach),
    ("wasm_bpf_buffer_poll(Iiiiiii)i", poll),
    ("wasm_bpf_map_fd_by_name(Ii)i", map_by_name),
    ("wasm_bpf_map_operate(iiiiiI)i", operate),
];

/// For Go, whose function tables hold no functions to call back: the callback is an export.
pub(super) const WRAPPER: Table = table![("wasm_bpf_buffer_poll(Iiiiii)i", poll_exported)];

/// Objects of one guest, by handle - 1. As with descriptors, the numbers of what was closed are given out again.
#[derive(Default)]
pub(super) struct Objects {
    list: Vec<Option<Object>>,
    /// Maps that the guest knows, by number - `FIRST_MAP`: the object and its place in there.
    maps: Vec<Option<(usize, usize)>>,
}

struct Object {
    session: Session,
    /// The buffers that have been polled, by the map's place; gone while they are at work.
    sources: Vec<(usize, Option<Sources>)>,
}

/// Objects that one guest may have at a time.
const OBJECTS: usize = 64;
/// Descriptors begin behind the standard three; so do the numbers of maps.
const FIRST_MAP: usize = 3;
/// Longest name of a program or map, and longest target.
const NAME: usize = 4096;
/// Records of one poll.
const BATCH: usize = 4096;

/// What an import answers: a number, or an errno.
type Answer<T = i32> = Result<T, i32>;

/// An i32 result as the guest gets it.
fn answer(result: Answer) -> Option<u64> {
    Some(result.unwrap_or_else(|errno| -errno) as u32 as u64)
}

/// The errno for a guest; why, the log tells.
fn logged(run: &Run<'_>, error: Error) -> i32 {
    run.refuse(&error);
    match error.status {
        _ if error.errno > 0 => error.errno,
        Status::NotFound => libc::ENOENT,
        Status::NoMem => libc::ENOMEM,
        Status::Perm => libc::EPERM,
        Status::Busy => libc::EBUSY,
        _ => libc::EINVAL,
    }
}

impl Objects {
    fn index(handle: u64) -> Answer<usize> {
        usize::try_from(handle).ok().and_then(|handle| handle.checked_sub(1)).ok_or(libc::EINVAL)
    }

    fn object(&mut self, handle: u64) -> Answer<&mut Object> {
        self.list.get_mut(Objects::index(handle)?).and_then(Option::as_mut).ok_or(libc::EINVAL)
    }

    /// The map of that number.
    fn map(&self, number: u32) -> Answer<&Arc<Map>> {
        let place = (number as usize).checked_sub(FIRST_MAP).and_then(|place| self.maps.get(place));
        let (object, map) = place.copied().flatten().ok_or(libc::EBADF)?;
        let object = self.list[object].as_ref().ok_or(libc::EBADF)?;
        object.session.maps().get(map).ok_or(libc::EBADF)
    }
}

/// Puts something into the first gap of a list; its place.
fn put<T>(list: &mut Vec<Option<T>>, item: T) -> usize {
    let place = list.iter().position(Option::is_none).unwrap_or_else(|| {
        list.push(None);
        list.len() - 1
    });
    list[place] = Some(item);
    place
}

/// `i64 wasm_load_bpf_object(void *elf, int len)`: a handle from 1, or 0.
fn load(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (at, len) = (args[0] as u32, args[1] as u32);
    let loaded = if len as usize > MAX_OBJECT { None } else { guest.read(at, len) };
    let none = || Error::new(Status::Inval, format_args!("no object at {at:#x} with {len} bytes"));
    match loaded.ok_or_else(none).and_then(|elf| load_object(run, &elf)) {
        Ok(handle) => Some(handle),
        Err(error) if error.status == Status::Stopped => run.ends(End::Stopped),
        Err(error) => {
            run.refuse(&error.at("wasm_load_bpf_object"));
            Some(0)
        }
    }
}

fn load_object(run: &Run<'_>, elf: &[u8]) -> Result<u64> {
    if run.objects.borrow().list.iter().flatten().count() >= OBJECTS {
        return Err(Error::new(Status::Inval, format_args!("a guest can have {OBJECTS} objects")));
    }
    let package = Package::from_object(elf, None)?;
    let mut session = Session::open(package, (run.vm.session)(), Arc::clone(run.vm.log))?;
    session.load_without_sources()?;
    run.outlet.borrow_mut().loaded(&session);
    let place = put(&mut run.objects.borrow_mut().list, Object { session, sources: Vec::new() });
    Ok(place as u64 + 1)
}

/// `int wasm_close_bpf_object(i64 object)`. An object that delivers at this moment stays.
fn close(run: &Run<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut objects = run.objects.borrow_mut();
    let closed = objects.object(args[0]).and_then(|object| {
        let is_at_work = object.sources.iter().any(|(_, sources)| sources.is_none());
        if is_at_work { Err(libc::EBUSY) } else { Objects::index(args[0]) }
    });
    let gone = closed.map(|index| {
        objects.maps.iter_mut().for_each(|map| *map = map.filter(|(object, _)| *object != index));
        objects.list[index].take()
    });
    drop(objects);
    if let Ok(Some(object)) = &gone {
        run.outlet.borrow_mut().unloading(&object.session);
    }
    if let Err(error) = run.outlet.borrow_mut().watch(&[]) {
        return run.ends(End::Failed(error));
    }
    answer(gone.map(|_| 0))
}

/// `int wasm_attach_bpf_program(i64 object, char *name, char *target)`. The target, if there is one, is the cgroup of a
/// sockops program or the interface of an xdp program.
fn attach(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let text = |at: u64| guest.read_text(at as u32, NAME).and_then(|text| String::from_utf8(text).ok());
    let attached = text(args[1]).ok_or(libc::EFAULT).and_then(|name| {
        let target = if args[2] as u32 == 0 { String::new() } else { text(args[2]).ok_or(libc::EFAULT)? };
        let mut objects = run.objects.borrow_mut();
        let session = &mut objects.object(args[0])?.session;
        attach_program(session, &name, &target)
            .map_err(|error| logged(run, error.at("wasm_attach_bpf_program")))
    });
    answer(attached.map(|()| 0))
}

fn attach_program(session: &mut Session, name: &str, target: &str) -> Result<()> {
    let section = session.prog_info(session.prog_index(name)?).section;
    let json = match section.to_bytes() {
        _ if target.is_empty() => None,
        b"sockops" => Some(members([("cgroup", target.into())])),
        b"xdp" => Some(members([("interface", target.into())])),
        _ => None,
    };
    if let Some(json) = json {
        session.set_target(name, &compact(&json))?;
    }
    session.attach_prog(name)
}

/// `int wasm_bpf_map_fd_by_name(i64 object, char *name)`: the number of a map.
fn map_by_name(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut objects = run.objects.borrow_mut();
    let name = guest.read_text(args[1] as u32, NAME).ok_or(libc::EFAULT);
    answer(name.and_then(|name| {
        let maps = objects.object(args[0])?.session.maps();
        let map = maps.iter().position(|map| map.name.to_bytes() == name).ok_or(libc::ENOENT)?;
        let entry = (Objects::index(args[0])?, map);
        let known = objects.maps.iter().position(|known| *known == Some(entry));
        let place = known.unwrap_or_else(|| put(&mut objects.maps, entry));
        i32::try_from(place + FIRST_MAP).map_err(|_| libc::EMFILE)
    }))
}

/// Operations as bpf(2) numbers them.
mod command {
    pub const LOOKUP: i32 = 1;
    pub const UPDATE: i32 = 2;
    pub const DELETE: i32 = 3;
    pub const NEXT_KEY: i32 = 4;
}

/// `int wasm_bpf_map_operate(int map, int cmd, void *key, void *value, void *next_key, u64 flags)`.
fn operate(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let objects = run.objects.borrow();
    let done = objects.map(args[0] as u32).and_then(|map| {
        let fd = map.fd().map_err(|_| libc::EBADF)?;
        operate_on(map, fd, guest, args)
    });
    answer(done.map(|()| 0))
}

fn operate_on(map: &Map, fd: &MapFd, guest: Guest<'_>, args: &Args) -> Answer<()> {
    let [key_at, value_at, next_at] = [args[2], args[3], args[4]].map(|at| at as u32);
    let read = |at: u32, len: usize| guest.read(at, len as u32).ok_or(libc::EFAULT);
    let key = || read(key_at, map.key.size);
    let kernel = |result: os::Result<()>| result.map_err(|e| e.0);
    match args[1] as i32 {
        command::LOOKUP..=command::NEXT_KEY if holds_descriptors(map.kind) => Err(libc::EPERM),
        command::LOOKUP => {
            let (key, mut value) = (key()?, read(value_at, fd.value_len())?);
            kernel(fd.lookup(&key, &mut value))?;
            guest.write(value_at, &value).ok_or(libc::EFAULT)
        }
        command::UPDATE => {
            let (key, value) = (key()?, read(value_at, fd.value_len())?);
            kernel(fd.update(&key, &value, args[5]))
        }
        command::DELETE => kernel(fd.delete(&key()?)),
        command::NEXT_KEY => {
            let key = if key_at == 0 { None } else { Some(key()?) };
            let mut next = read(next_at, map.key.size)?;
            kernel(fd.next_key(key.as_deref(), &mut next))?;
            guest.write(next_at, &next).ok_or(libc::EFAULT)
        }
        _ => Err(libc::EINVAL),
    }
}

/// What a poll is about.
struct Poll<'a> {
    callback: Function<'a>,
    place: &'static str,
    ctx: u32,
    data: u32,
    room: u32,
    timeout_ms: i32,
}

/// `int wasm_bpf_buffer_poll(i64 object, int map, int function, int ctx, void *data, int max_size, int timeout_ms)`: calls
/// the function for each event, in order; the number of events, or below 0 what went wrong or what the function
/// answered if that is below 0.
fn poll(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (place, index) = ("the callback of wasm_bpf_buffer_poll", args[2] as u32);
    let callback = guest.table_function(index, 3).map_err(|signature| {
        let (what, why) = match signature.is_empty() {
            true => ("is not there", "and the module has to export that table"),
            false => ("has type ", CALLABLE),
        };
        format!("{place}: element {index} of __indirect_function_table {what}{signature}, {why}")
    });
    poll_with(run, guest, callback, place, args, [args[3], args[4], args[5], args[6]])
}

/// The same without the function, which is the export `go-callback`.
fn poll_exported(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let callback = guest.function(c"go-callback", 3);
    let callback = callback.ok_or_else(|| "the module does not export go-callback".to_owned());
    poll_with(run, guest, callback, "go-callback", args, [args[2], args[3], args[4], args[5]])
}

fn poll_with(
    run: &Run<'_>,
    guest: Guest<'_>,
    callback: Result<Function<'_>, String>,
    place: &'static str,
    args: &Args,
    rest: [u64; 4],
) -> Option<u64> {
    let [ctx, data, room, timeout] = rest.map(|arg| arg as u32);
    if !guest.has(data, room) || room > i32::MAX as u32 {
        return answer(Err(libc::EFAULT));
    }
    if run.polling.get() {
        return answer(Err(libc::EBUSY));
    }
    let (map, mut sources) = match take_sources(run, args[0], args[1] as u32) {
        Ok(taken) => taken,
        Err(errno) => return answer(Err(errno)),
    };
    let callback = match callback {
        Ok(callback) => callback,
        // What can never deliver must not look like a poll that found nothing.
        Err(why) => return run.ends(End::Failed(Error::new(Status::Wasm, why))),
    };
    let poll = Poll { callback, place, ctx, data, room, timeout_ms: timeout as i32 };
    run.polling.set(true);
    let polled = poll.events(run, guest, &mut sources);
    run.polling.set(false);
    give_back(run, args[0], map, sources);
    match polled {
        Ok(result) if !run.is_ending() => answer(result),
        Ok(_) => None,
        Err(error) => run.ends(End::Failed(error)),
    }
}

/// The buffer behind a map's number, opened by the first poll; it is gone from its object meanwhile.
fn take_sources(run: &Run<'_>, object: u64, map: u32) -> Answer<(usize, Sources)> {
    let mut objects = run.objects.borrow_mut();
    let place = (map as usize).checked_sub(FIRST_MAP).and_then(|place| objects.maps.get(place));
    let (owner, map) = place.copied().flatten().ok_or(libc::EBADF)?;
    if owner != Objects::index(object)? {
        return Err(libc::EINVAL);
    }
    let object = objects.object(object)?;
    if let Some((_, sources)) = object.sources.iter_mut().find(|(of, _)| *of == map) {
        return sources.take().map(|sources| (map, sources)).ok_or(libc::EBUSY);
    }
    let opened = object.session.open_source(map);
    let opened = opened.map_err(|error| logged(run, error.at("wasm_bpf_buffer_poll")))?;
    object.sources.push((map, None));
    Ok((map, opened))
}

fn give_back(run: &Run<'_>, object: u64, map: usize, back: Sources) {
    let mut objects = run.objects.borrow_mut();
    let Ok(object) = objects.object(object) else { return };
    if let Some((_, sources)) = object.sources.iter_mut().find(|(of, _)| *of == map) {
        *sources = Some(back);
    }
}

impl Poll<'_> {
    /// Waits for the first events and hands over what is there then. The error ends the guest.
    fn events(&self, run: &Run<'_>, guest: Guest<'_>, sources: &mut Sources) -> Result<Answer> {
        let timeout = u64::try_from(self.timeout_ms).ok().map(Duration::from_millis);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        run.outlet.borrow_mut().watch(&[&*sources])?;
        loop {
            let wake = run.watch.pause(|| run.outlet.borrow_mut().wait(deadline))?;
            match wake {
                Wake::Nothing => return Ok(Ok(0)),
                Wake::Stop => {
                    run.ends::<()>(End::Stopped);
                    return Ok(Ok(0));
                }
                Wake::Events => {}
            }
            let mut hand = Hand { run, guest, poll: self, count: 0, bytes: 0, refused: None, is_over: false };
            run.watch.armed(|| sources.drain(BATCH, &mut (&mut hand as &mut dyn Sink)))?;
            let Hand { count, bytes, refused, is_over, .. } = hand;
            run.outlet.borrow_mut().taken(count, bytes);
            if is_over {
                // The guest trapped: it ends as soon as it is back in its code.
                return Ok(Ok(0));
            }
            if let Some(verdict) = refused {
                return Ok(Ok(verdict));
            }
            if count > 0 {
                return Ok(Ok(i32::try_from(count).unwrap_or(i32::MAX)));
            }
        }
    }
}

/// Hands records to the callback of a poll.
struct Hand<'a, 'r> {
    run: &'a Run<'r>,
    guest: Guest<'a>,
    poll: &'a Poll<'a>,
    count: u64,
    bytes: u64,
    /// What the callback answered, if below 0.
    refused: Option<i32>,
    is_over: bool,
}

impl Sink for Hand<'_, '_> {
    fn record(&mut self, _source: &Shape, _cpu: i32, data: &[u8]) -> bool {
        let Poll { callback, place, ctx, data: at, room, .. } = *self.poll;
        let piece = &data[..data.len().min(room as usize)];
        let called = self.guest.write(at, piece).and_then(|()| {
            let args = [ctx, at, piece.len() as u32];
            self.run.watch.call(|| self.run.enter(self.guest, place, callback, &args)).ok()
        });
        self.count += 1;
        self.bytes += data.len() as u64;
        match called {
            None => self.is_over = true,
            Some(verdict) => self.refused = Some(verdict as i32).filter(|verdict| *verdict < 0),
        }
        called.is_some() && self.refused.is_none()
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        self.is_over |= self.run.deliver(|to| to.lost(source, cpu, count)).is_none();
        !self.is_over
    }

    fn entry(&mut self, _source: &Shape, _key: &[u8], _value: &[u8]) -> bool {
        true
    }

    fn round(&mut self, _source: &Shape) -> bool {
        true
    }

    fn interrupted(&self) -> bool {
        self.is_over || self.refused.is_some() || self.run.outlet.borrow().interrupted()
    }
}
