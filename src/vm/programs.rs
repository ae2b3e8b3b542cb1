//! Programs by name and by number.

use super::state::{Vm, out_of_range};
use crate::bpf::session::contents::{ProgCode, ProgInfo};
use crate::error::Result;

impl Vm {
    /// Number of programs.
    pub fn prog_count(&self) -> Result<usize> {
        Ok(self.inner()?.session()?.prog_count())
    }

    /// Program number `index`.
    pub fn prog_at(&self, index: usize) -> Result<ProgInfo> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.prog_count();
        if index < count { Ok(session.prog_info(index)) } else { Err(out_of_range("program", index, count)) }
    }

    /// The program of that name.
    pub fn prog_find(&self, name: &str) -> Result<ProgInfo> {
        let inner = self.inner()?;
        let session = inner.session()?;
        Ok(session.prog_info(session.prog_index(name)?))
    }

    /// The instructions of program number `index`, for hosts that judge them.
    pub fn prog_code_at(&self, index: usize) -> Result<ProgCode> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.prog_count();
        if index < count { Ok(session.prog_code(index)) } else { Err(out_of_range("program", index, count)) }
    }

    /// Whether load loads a program; before load.
    pub fn prog_set_autoload(&self, prog: &str, on: bool) -> Result<()> {
        self.inner()?.session_mut()?.set_autoload(prog, on)
    }

    /// Where a program attaches, in place of what the package says: an object with the keys of a package's `progs[]`
    /// entries, or an array of them; before attach.
    pub fn prog_set_target_json(&self, prog: &str, json: &str) -> Result<()> {
        self.inner()?.session_mut()?.set_target(prog, json)
    }

    /// The package and its state as JSON.
    pub fn describe(&self) -> Result<String> {
        Ok(self.inner()?.session()?.describe())
    }
}
