//! The packages that a guest has created, by number.

use std::sync::Arc;

use crate::bpf::session::Session;
use crate::bpf::source::Sources;
use crate::error::{Error, Result, Status};
use crate::package::Package;
use crate::wasm::outlet::{Outlet, Vm};

/// Maximum number of packages that one guest can create.
const MAX_PROGRAMS: usize = 64;

/// The number that means all running programs.
const ALL: i32 = -1;

/// The packages of a guest. The index is their number.
#[derive(Default)]
pub struct Programs(Vec<Program>);

struct Program {
    session: Session,
    /// The sources of its events. `None` before the program runs and while it is polled.
    sources: Option<Sources>,
}

impl Programs {
    /// All packages.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.0.iter().map(|program| &program.session)
    }

    /// Opens a package and returns its number.
    pub fn create(&mut self, package: Package, vm: &Vm<'_>) -> Result<i32> {
        let id = self.0.len();
        if id >= MAX_PROGRAMS {
            return Err(Error::new(
                Status::Inval,
                format_args!("a guest can create at most {MAX_PROGRAMS} programs"),
            ));
        }
        let session = Session::open(package, vm.session.clone(), Arc::clone(vm.log))?;
        self.0.push(Program { session, sources: None });
        Ok(id as i32)
    }

    /// Loads and attaches a package.
    pub fn start(&mut self, id: i32, outlet: &mut dyn Outlet) -> Result<()> {
        let program =
            usize::try_from(id).ok().and_then(|id| self.0.get_mut(id)).ok_or_else(|| unknown(id))?;
        let session = &mut program.session;
        if session.is_loaded() {
            return Err(Error::new(Status::State, format_args!("program {id} is already running")));
        }
        let sources = outlet.load(session)?;
        session.attach()?;
        outlet.after_load(session);
        program.sources = Some(sources);
        Ok(())
    }

    /// Takes the sources of a running program, or of all, to poll them. Returns them with the numbers of the programs.
    pub fn take_sources(&mut self, id: i32) -> Result<Vec<(usize, Sources)>> {
        let is_requested = |index: usize| id == ALL || usize::try_from(id) == Ok(index);
        let requested = self.0.iter_mut().enumerate().filter(|(index, _)| is_requested(*index));
        let taken: Vec<_> =
            requested.filter_map(|(index, program)| Some((index, program.sources.take()?))).collect();
        match usize::try_from(id).map(|id| id < self.0.len()) {
            _ if !taken.is_empty() => Ok(taken),
            Ok(true) => Err(Error::new(Status::State, format_args!("program {id} is not running"))),
            _ => Err(unknown(id)),
        }
    }

    /// Puts back what `take_sources` took.
    pub fn put_back(&mut self, taken: Vec<(usize, Sources)>) {
        for (index, sources) in taken {
            self.0[index].sources = Some(sources);
        }
    }
}

fn unknown(id: i32) -> Error {
    Error::new(Status::NotFound, format_args!("program {id} does not exist"))
}
