//! Loads a package without the programs that this kernel cannot load.

use super::{Session, set_autoload};
use crate::bpf::constants::map_type;
use crate::bpf::diagnose::LoadFailure;
use crate::error::{Error, Result, Status};

/// Tries to load a package, each without one more program: as many as programs may have variants, twice, and one.
const MAX_TRIES: usize = 2 * 256 + 1;

impl Session {
    /// Loads without the programs that this kernel cannot load and that the package can do without. libbpf names one
    /// program at a time, and each costs a try, or two: for the whole log of one that the verifier rejects, it is asked again.
    pub(super) fn load_what_works(&mut self) -> Result<()> {
        let (mut tries, mut traced) = (0, None);
        while let Err(failure) = self.opened.load(&self.config.open, &self.log, traced, self.config.stop) {
            if failure.lacks_kfunc && !self.config.open.weak_kfuncs {
                self.config.open.weak_kfuncs = true;
            } else {
                tries += 1;
                let prog = failure.prog.filter(|_| tries < MAX_TRIES);
                let Some(index) = prog else { return Err(failure.error) };
                if traced.is_none() && failure.error.status == Status::Verifier {
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

    /// Takes a program that would not load out of the next try; an error if the package cannot do without it.
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

    /// Loads the `wanted` programs alone, and all maps but those called as in `without`. False if they loaded and have gone
    /// again, because a program array should hold another one.
    pub fn load_alone(&mut self, wanted: &[bool], without: &[&str]) -> Result<bool, LoadFailure> {
        let failed = |error| LoadFailure { error, prog: None, lacks_kfunc: false };
        let _low = self.descriptors().map_err(failed)?;
        let mut traced = None;
        loop {
            for (prog, wanted) in self.opened.object.progs().zip(wanted) {
                set_autoload(prog, *wanted).map_err(failed)?;
            }
            for map in self.opened.object.maps() {
                let is_left_out = without.contains(&&*map.name().to_string_lossy());
                if is_left_out || map.kind() == map_type::STRUCT_OPS {
                    // What fails here fails when it is loaded.
                    let _ = map.set_autocreate(!is_left_out);
                }
            }
            let pages = self.perf_pages();
            let charge = self.config.account.take(&self.opened, &self.package.object, pages);
            self.charge = Some(charge.map_err(failed)?);
            match self.opened.load(&self.config.open, &self.log, traced, self.config.stop) {
                Err(failure) if failure.lacks_kfunc && !self.config.open.weak_kfuncs => {
                    self.config.open.weak_kfuncs = true;
                }
                Err(failure) if failure.prog.is_none() && failure.error.errno == libc::EBADF => {
                    return Ok(false);
                }
                Err(LoadFailure { error, prog: Some(prog), .. })
                    if error.status == Status::Verifier && traced.is_none() =>
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
