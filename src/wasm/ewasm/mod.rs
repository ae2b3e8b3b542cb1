//! The first interface of guests: packages as JSON, numbered from 0, and events handed to `process_event`.

pub(super) mod feed;

use crate::bpf::session::Session;
use crate::bpf::source::{Sink, Sources};
use crate::error::{Error, Result, Status};
use crate::package::{MAX_DOCUMENT, Package};
use crate::wasm::Wake;
use crate::wasm::imports::{Args, Call, Table, table};
use crate::wasm::run::{End, Run};
use crate::wasm::sys::instance::Guest;
use feed::Feed;
use std::sync::Arc;

pub(super) const IMPORTS: Table =
    table![("create_bpf(ii)i", create), ("run_bpf(i)i", start), ("wait_and_poll_bpf(i)i", poll)];

/// What a guest has created, by its number.
#[derive(Default)]
pub(super) struct Programs(Vec<Program>);

struct Program {
    session: Session,
    /// Once it runs, unless it is being polled.
    sources: Option<Sources>,
}

/// Packages that one guest may create.
const PROGRAMS: usize = 64;

/// The id that stands for all programs that run.
const ALL: i32 = -1;

/// Events of one source's turns before `stop` is looked at.
const BATCH: usize = 4096;

/// An i32 as a guest gets it.
fn number(value: i32) -> Option<u64> {
    Some(value as u32 as u64)
}

/// `int create_bpf(char *json, int len)`: the id, or -1. The text ends with a NUL, whatever the length says.
fn create(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    match create_program(run, guest, args[0] as u32, args[1] as u32) {
        Ok(id) => number(id),
        Err(error) => {
            run.refuse(&error.at("create_bpf"));
            number(-1)
        }
    }
}

fn create_program(run: &Run<'_>, guest: Guest<'_>, at: u32, len: u32) -> Result<i32> {
    let json = guest.read_text(at, MAX_DOCUMENT).or_else(|| guest.read(at, len));
    let text = || Error::new(Status::Inval, format_args!("no text at {at:#x} with {len} bytes"));
    let package = Package::parse(&json.ok_or_else(text)?)?;
    let id = run.programs.borrow().0.len();
    if id >= PROGRAMS {
        return Err(Error::new(Status::Inval, format_args!("a guest can have {PROGRAMS} programs")));
    }
    let mut config = (run.vm.session)();
    config.open.name = package.meta.obj_name.clone();
    let session = Session::open(package, config, Arc::clone(run.vm.log))?;
    run.programs.borrow_mut().0.push(Program { session, sources: None });
    Ok(id as i32)
}

/// `int run_bpf(int id)`: loads and attaches; 0, or below 0 on failure.
fn start(run: &Run<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    let started = run.programs.borrow_mut().start(args[0] as i32, run);
    match started {
        Ok(()) => number(0),
        Err(error) if error.status == Status::Stopped => run.ends(End::Stopped),
        Err(error) => Some(run.refuse(&error.at("run_bpf")) & u64::from(u32::MAX)),
    }
}

impl Programs {
    fn start(&mut self, id: i32, run: &Run<'_>) -> Result<()> {
        let program =
            usize::try_from(id).ok().and_then(|id| self.0.get_mut(id)).ok_or_else(|| unknown(id))?;
        let session = &mut program.session;
        if session.is_loaded() {
            return Err(Error::new(Status::State, format_args!("program {id} runs already")));
        }
        let sources = run.outlet.borrow_mut().load(session)?;
        session.attach()?;
        run.outlet.borrow_mut().loaded(session);
        program.sources = Some(sources);
        Ok(())
    }

    /// Takes the sources of a program, or of all, to poll them.
    fn take(&mut self, id: i32) -> Result<Vec<(usize, Sources)>> {
        let wanted = |index: usize| id == ALL || usize::try_from(id) == Ok(index);
        let running = self.0.iter_mut().enumerate().filter(|(index, _)| wanted(*index));
        let taken: Vec<_> =
            running.filter_map(|(index, program)| Some((index, program.sources.take()?))).collect();
        match usize::try_from(id).map(|id| id < self.0.len()) {
            _ if !taken.is_empty() => Ok(taken),
            Ok(true) => Err(Error::new(Status::State, format_args!("program {id} does not run"))),
            _ => Err(unknown(id)),
        }
    }

    fn give_back(&mut self, taken: Vec<(usize, Sources)>) {
        for (index, sources) in taken {
            self.0[index].sources = Some(sources);
        }
    }
}

fn unknown(id: i32) -> Error {
    Error::new(Status::NotFound, format_args!("there is no program {id}"))
}

/// `int wait_and_poll_bpf(int id)`: hands events to the guest until the run ends; below 0 if that cannot begin.
fn poll(run: &Run<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    if run.polling.get() {
        let text = "wait_and_poll_bpf: events are being handed to the guest already";
        return Some(run.refuse(&Error::new(Status::Busy, text)) & u64::from(u32::MAX));
    }
    let taken = run.programs.borrow_mut().take(args[0] as i32);
    let mut polled = match taken {
        Ok(polled) => polled,
        Err(error) => return Some(run.refuse(&error.at("wait_and_poll_bpf")) & u64::from(u32::MAX)),
    };
    run.polling.set(true);
    let failed = poll_until_the_end(run, guest, &mut polled);
    run.polling.set(false);
    run.programs.borrow_mut().give_back(polled);
    match failed {
        Err(error) => run.ends(End::Failed(error)),
        Ok(()) => None,
    }
}

/// Returns when the guest has to end, with an error if nobody has noted another reason.
fn poll_until_the_end(run: &Run<'_>, guest: Guest<'_>, polled: &mut [(usize, Sources)]) -> Result<()> {
    let watched: Vec<_> = polled.iter().map(|(_, sources)| sources).collect();
    run.outlet.borrow_mut().watch(&watched)?;
    let mut feeds: Vec<Feed> =
        polled.iter().map(|(_, sources)| Feed::new(run, guest, sources.shapes())).collect();
    loop {
        let wake = run.watch.pause(|| run.outlet.borrow_mut().wait(None))?;
        if wake == Wake::Stop {
            run.ends::<()>(End::Stopped);
            return Ok(());
        }
        for ((_, sources), feed) in polled.iter_mut().zip(&mut feeds) {
            run.watch.armed(|| {
                let drained = sources.drain(BATCH, &mut (&mut *feed as &mut dyn Sink));
                feed.flush();
                drained
            })?;
            if feed.is_over() {
                return Ok(());
            }
        }
    }
}
