//! What the loader does: the tasks, and the requests about them, one at a time.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use eunomia::vm::{Exported, ReplaceOptions};
use eunomia::{Kind, Level, Options, Status, Vm};

use super::protocol::{Failure, Reply, Request};
use super::{channel, privileges};

/// The most tasks.
const MAX_TASKS: usize = 256;

/// The name of the program in messages about its arguments.
const PROGRAM: &str = "prog";

/// Serves requests until the server closes the socket. Detaches everything then. Call it before other threads run: it drops
/// privileges of this thread.
pub fn serve(socket: OwnedFd) -> io::Result<()> {
    privileges::confine_loader().map_err(io::Error::other)?;
    let socket = UnixStream::from(socket);
    let mut loader = Loader::default();
    while let Some(request) = receive(&socket)? {
        match request {
            Request::Replace { task, package } => loader.replace(&socket, task, &package)?,
            request => answer(&socket, loader.handle(request))?,
        }
    }
    Ok(())
}

fn receive(socket: &UnixStream) -> io::Result<Option<Request>> {
    let Some((message, _)) = channel::receive(socket)? else { return Ok(None) };
    let malformed = || io::Error::other("the server sent a malformed request");
    Request::decode(&message).map(Some).ok_or_else(malformed)
}

fn answer(socket: &UnixStream, answer: Result<Answer>) -> io::Result<()> {
    let (reply, exported) = answer.unwrap_or_else(|failure| (Reply::Failed(failure), None));
    let descriptors = exported.as_ref().map(Exported::fds).unwrap_or_default();
    channel::send(socket, &reply.encode(), &descriptors)
}

#[derive(Default)]
struct Loader {
    tasks: BTreeMap<u64, Vm>,
}

type Result<T> = std::result::Result<T, Failure>;
type Answer = (Reply, Option<Exported>);

impl Loader {
    fn handle(&mut self, request: Request) -> Result<Answer> {
        match request {
            Request::Load { task, package, args, variables } => {
                if self.tasks.contains_key(&task) || self.tasks.len() >= MAX_TASKS {
                    let text = format!("task {task} runs already, or there are {MAX_TASKS} tasks");
                    return Err(Failure::new(Status::State, text));
                }
                let vm = load(&package, &args, &variables)?;
                let answer = loaded(vm.export()?);
                self.tasks.insert(task, vm);
                Ok(answer)
            }
            Request::Pause { task, on } => {
                let vm = self.task(task)?;
                if on {
                    vm.detach()?
                } else {
                    vm.attach()?
                }
                Ok((Reply::Done, None))
            }
            Request::Unload { task } => {
                self.tasks.remove(&task);
                Ok((Reply::Done, None))
            }
            Request::Describe { task } => Ok((Reply::Text(self.task(task)?.describe()?), None)),
            Request::Replace { .. } | Request::Flip | Request::Abort => {
                Err(Failure::new(Status::State, "nothing is prepared"))
            }
        }
    }

    /// Replaces the package of a task. The server decides when its reader is ready.
    fn replace(&self, socket: &UnixStream, task: u64, package: &[u8]) -> io::Result<()> {
        let prepare = || {
            let mut prepared = self.task(task)?.prepare(package, ReplaceOptions::default())?;
            let exported = prepared.export()?;
            Ok((prepared, exported))
        };
        let (prepared, exported) = match prepare() {
            Ok(both) => both,
            Err(failure) => return answer(socket, Err(failure)),
        };
        answer(socket, Ok(loaded(exported)))?;
        match receive(socket)? {
            Some(Request::Flip) => {
                let report = prepared.flip().map_err(Failure::from);
                answer(socket, report.map(|report| (Reply::Text(report.to_json()), None)))
            }
            Some(Request::Abort) => answer(socket, Ok((Reply::Done, None))),
            _ => Err(io::Error::other("the server sent neither flip nor abort")),
        }
    }

    fn task(&self, task: u64) -> Result<&Vm> {
        self.tasks.get(&task).ok_or_else(|| Failure::new(Status::NotFound, format_args!("no task {task}")))
    }
}

fn load(package: &[u8], args: &[String], variables: &[(String, String)]) -> Result<Vm> {
    let log = |level: Level, line: &str| eprintln!("loader: {level:?}: {line}");
    let vm = Vm::new(Options::new().log(log).skip_missing_hooks(true).replaceable(true))?;
    vm.open(package, Kind::Json)?;
    let argv: Vec<&str> = std::iter::once(PROGRAM).chain(args.iter().map(String::as_str)).collect();
    if vm.args_set(&argv)? {
        let text = "args request the help or the version of the program, which does not run then";
        return Err(Failure::new(Status::Inval, text));
    }
    for (name, value) in variables {
        vm.var_set_json(name, value)?;
    }
    vm.attach()?;
    Ok(vm)
}

fn loaded(exported: Exported) -> Answer {
    let exported = exported.for_reader();
    (Reply::Loaded { description: exported.description() }, Some(exported))
}
