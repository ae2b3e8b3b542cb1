//! `wasm_bpf_buffer_poll`: waits for the events of one buffer and calls back the guest with each.

use std::time::{Duration, Instant};

use super::errno::{Result as GuestResult, log_errno, to_guest};
use crate::bpf::source::{Shape, Sink, Sources};
use crate::error::{Error, Result, Status};
use crate::wasm::call::Args;
use crate::wasm::outlet::Wake;
use crate::wasm::state::{End, State};
use crate::wasm::sys::guest::{Function, Guest};
use crate::wasm::sys::signature::CALLBACK_TYPE;

/// Maximum number of records of one poll.
const MAX_RECORDS: usize = 4096;

/// The arguments of a poll.
struct Poll<'a> {
    callback: Function<'a>,
    /// Name of the callback in error messages.
    name: &'static str,
    ctx: u32,
    /// Address and size of the guest's memory for one event.
    data: u32,
    max_size: u32,
    timeout_ms: i32,
}

/// `int wasm_bpf_buffer_poll(i64 object, int map, int function, int ctx, void *data, int max_size, int timeout_ms)`: calls
/// the function for each event, in order. Returns the number of events. If the function returns a negative number, the
/// poll ends and returns that number.
pub fn buffer_poll(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (name, index) = ("the callback of wasm_bpf_buffer_poll", args[2] as u32);
    let callback = guest.table_function(index, 3).map_err(|signature| {
        let (what, why) = match signature.is_empty() {
            true => ("does not exist", "and the module must export that table"),
            false => ("has type ", CALLBACK_TYPE),
        };
        format!("{name}: element {index} of __indirect_function_table {what}{signature}, {why}")
    });
    poll(state, guest, callback, name, args, [args[3], args[4], args[5], args[6]])
}

/// Like `buffer_poll`, without the parameter `function`: the callback is the export `go-callback`.
pub fn go_buffer_poll(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let callback = guest.function(c"go-callback", 3);
    let callback = callback.ok_or_else(|| "the module does not export go-callback".to_owned());
    poll(state, guest, callback, "go-callback", args, [args[2], args[3], args[4], args[5]])
}

fn poll(
    state: &State<'_>,
    guest: Guest<'_>,
    callback: Result<Function<'_>, String>,
    name: &'static str,
    args: &Args,
    rest: [u64; 4],
) -> Option<u64> {
    let [ctx, data, max_size, timeout] = rest.map(|arg| arg as u32);
    if !guest.has(data, max_size) || max_size > i32::MAX as u32 {
        return to_guest(Err(libc::EFAULT));
    }
    if state.is_polling() {
        return to_guest(Err(libc::EBUSY));
    }
    let (map, mut sources) = match take_sources(state, args[0], args[1] as u32) {
        Ok(taken) => taken,
        Err(errno) => return to_guest(Err(errno)),
    };
    let callback = match callback {
        Ok(callback) => callback,
        // The guest must be able to distinguish a poll that can never deliver from one that found nothing.
        Err(why) => return state.end(End::Failed(Error::new(Status::Wasm, why))),
    };
    let poll = Poll { callback, name, ctx, data, max_size, timeout_ms: timeout as i32 };
    let polled = state.polling(|| poll.run(state, guest, &mut sources));
    if let Ok(object) = state.objects.borrow_mut().object(args[0]) {
        object.put_back(map, sources);
    }
    match polled {
        Ok(result) if !state.is_ending() => to_guest(result),
        Ok(_) => None,
        Err(error) => state.end(End::Failed(error)),
    }
}

/// Takes the buffer of a map from its object, with the map's index. The first poll opens it.
fn take_sources(state: &State<'_>, handle: u64, number: u32) -> GuestResult<(usize, Sources)> {
    let mut objects = state.objects.borrow_mut();
    let map = objects.map_index(handle, number)?;
    let object = objects.object(handle)?;
    if let Some(sources) = object.take_sources(map)? {
        return Ok((map, sources));
    }
    let opened = object.open_sources(map);
    opened.map(|sources| (map, sources)).map_err(|error| log_errno(state, error.at("wasm_bpf_buffer_poll")))
}

impl Poll<'_> {
    /// Waits for the first events and passes on those that are available then. An error ends the guest.
    fn run(&self, state: &State<'_>, guest: Guest<'_>, sources: &mut Sources) -> Result<GuestResult> {
        let timeout = u64::try_from(self.timeout_ms).ok().map(Duration::from_millis);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        state.outlet.borrow_mut().watch(&[&*sources])?;
        loop {
            let wake = state.watch.pause(|| state.outlet.borrow_mut().wait(deadline))?;
            match wake {
                Wake::Timeout => return Ok(Ok(0)),
                Wake::Stop => {
                    state.end::<()>(End::Stopped);
                    return Ok(Ok(0));
                }
                Wake::Events => {}
            }
            let mut sink =
                CallbackSink { state, guest, poll: self, count: 0, bytes: 0, negative: None, is_over: false };
            state.watch.armed(|| sources.drain(MAX_RECORDS, &mut sink as &mut dyn Sink))?;
            let CallbackSink { count, bytes, negative, is_over, .. } = sink;
            state.outlet.borrow_mut().count_consumed(count, bytes);
            if is_over {
                // The guest has trapped. It ends as soon as this call returns to its code.
                return Ok(Ok(0));
            }
            if let Some(verdict) = negative {
                return Ok(Ok(verdict));
            }
            if count > 0 {
                return Ok(Ok(i32::try_from(count).unwrap_or(i32::MAX)));
            }
        }
    }
}

/// Passes records to the callback of a poll.
struct CallbackSink<'a, 's> {
    state: &'a State<'s>,
    guest: Guest<'a>,
    poll: &'a Poll<'a>,
    count: u64,
    bytes: u64,
    /// The result of the callback, if that is negative.
    negative: Option<i32>,
    is_over: bool,
}

impl Sink for CallbackSink<'_, '_> {
    fn read_at(&mut self, time_ns: u64) {
        self.state.outlet.borrow_mut().read_at(time_ns);
    }

    fn record(&mut self, _source: &Shape, _cpu: i32, data: &[u8]) -> bool {
        let Poll { callback, name, ctx, data: at, max_size, .. } = *self.poll;
        let copied = &data[..data.len().min(max_size as usize)];
        let called = self.guest.write(at, copied).and_then(|()| {
            let args = [ctx, at, copied.len() as u32];
            self.state.watch.call(|| self.state.call(self.guest, name, callback, &args)).ok()
        });
        self.count += 1;
        self.bytes += data.len() as u64;
        match called {
            None => self.is_over = true,
            Some(verdict) => self.negative = Some(verdict as i32).filter(|verdict| *verdict < 0),
        }
        called.is_some() && self.negative.is_none()
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        self.is_over |= self.state.deliver(|to| to.lost(source, cpu, count)).is_none();
        !self.is_over
    }

    fn entry(&mut self, _source: &Shape, _key: &[u8], _value: &[u8]) -> bool {
        true
    }

    fn round(&mut self, _source: &Shape) -> bool {
        true
    }

    fn interrupted(&self) -> bool {
        self.is_over || self.negative.is_some() || self.state.outlet.borrow().interrupted()
    }
}
