//! Loads a package, without programs that this kernel cannot load and that the package does not require.

use super::{Session, set_autoload};
use crate::bpf::constants::map_type;
use crate::bpf::diagnose::LoadFailure;
use crate::error::{Error, Result, Status};

/// Maximum number of attempts to load a package. Each attempt leaves out one more program, or repeats one to get its
/// whole log.
const MAX_TRIES: usize = 2 * 256 + 1;

impl Session {
    /// Loads without the programs that this kernel cannot load and that the package does not require. libbpf reports one failed
    /// program at a time, so each takes one attempt. A program that the verifier rejects takes two, the second for its whole log.
    pub(super) fn load_what_works(&mut self) -> Result<()> {
        let (mut tries, mut traced) = (0, None);
        while let Err(failure) = self.opened.load(&self.config.open, &self.log, traced, self.config.stop) {
            if failure.lacks_kfunc && !self.config.open.weak_kfuncs {
                self.config.open.weak_kfuncs = true;
            } else {
                tries += 1;
                let prog = failure.prog.filter(|_| tries < MAX_TRIES);
                let Some(index) = prog else { return Err(failure.error) };
                if traced.is_none() && failure.error.status() == Status::Verifier {
                    traced = Some(index);
                } else {
                    traced = None;
                    self.go_without(index, failure.error)?;
                }
            }
            self.opened.renew(&self.package.object, &self.config.open, &self.log)?;
            self.set_all()?;
        }
        Ok(())
    }

    /// Leaves a program that failed to load out of the next attempt. Fails if the package requires it.
    fn go_without(&mut self, index: usize, cause: Error) -> Result<()> {
        if !self.alternatives.is_loaded_next(index) {
            return Err(cause);
        }
        self.alternatives.note(index, &cause, &self.log);
        let first = self.alternatives.first(index);
        let is_replaced = self.alternatives.chain(first).any(|index| self.alternatives.is_loaded_next(index));
        if is_replaced || self.may_skip(first, index, &cause) && self.alternatives.is_any_left() {
            return Ok(());
        }
        Err(self.alternatives.none_left(first, cause))
    }

    /// Loads only the `wanted` programs, and all maps except those named in `without`. Returns false if the programs loaded
    /// but were unloaded again because a program array refers to another program.
    pub fn load_alone(&mut self, wanted: &[bool], without: &[&str]) -> Result<bool, LoadFailure> {
        let failed = |error| LoadFailure { error, prog: None, lacks_kfunc: false };
        let _low = self.reserve_descriptors().map_err(failed)?;
        let mut traced = None;
        loop {
            for (prog, wanted) in self.opened.object.progs().zip(wanted) {
                set_autoload(prog, *wanted).map_err(failed)?;
            }
            for map in self.opened.object.maps() {
                let is_left_out = without.contains(&&*map.name().to_string_lossy());
                if is_left_out || map.kind() == map_type::STRUCT_OPS {
                    // A failure here is reported by the load.
                    let _ = map.set_autocreate(!is_left_out);
                }
            }
            self.charge = Some(self.take_charge().map_err(failed)?);
            match self.opened.load(&self.config.open, &self.log, traced, self.config.stop) {
                Err(failure) if failure.lacks_kfunc && !self.config.open.weak_kfuncs => {
                    self.config.open.weak_kfuncs = true;
                }
                Err(failure) if failure.prog.is_none() && failure.error.errno() == Some(libc::EBADF) => {
                    return Ok(false);
                }
                Err(LoadFailure { error, prog: Some(prog), .. })
                    if error.status() == Status::Verifier && traced.is_none() =>
                {
                    traced = Some(prog);
                }
                loaded => return loaded.map(|()| true),
            }
            self.charge = None;
            self.opened.renew(&self.package.object, &self.config.open, &self.log).map_err(failed)?;
        }
    }
}
