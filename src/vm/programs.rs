//! Programs by name and by index, and the description of the package.

use super::state::{Vm, out_of_range};
use crate::bpf::session::lookup::{ProgCode, ProgInfo};
use crate::error::Result;

impl Vm {
    /// Returns the number of programs.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// for index in 0..vm.prog_count()? {
    ///     let prog = vm.prog_at(index)?;
    ///     println!("{:?} in {:?}, attached: {}", prog.name, prog.section, prog.attached);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn prog_count(&self) -> Result<usize> {
        Ok(self.inner()?.session()?.prog_count())
    }

    /// Returns the program at `index`, in the order of the object. `Err(NotFound)` if `index` is out of range.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// assert!(!vm.prog_at(0)?.loaded);
    /// vm.load()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn prog_at(&self, index: usize) -> Result<ProgInfo> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.prog_count();
        if index < count { Ok(session.prog_info(index)) } else { Err(out_of_range("program", index, count)) }
    }

    /// Returns the program whose function is called `name`. `Err(NotFound)` if there is none.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let prog = vm.prog_find("handle_exec")?;
    /// println!("ran {} times in {} ns", prog.run_count, prog.run_ns);
    /// # Ok(())
    /// # }
    /// ```
    pub fn prog_find(&self, name: &str) -> Result<ProgInfo> {
        let inner = self.inner()?;
        let session = inner.session()?;
        Ok(session.prog_info(session.prog_index(name)?))
    }

    /// Returns the instructions of the program at `index`, for hosts that analyse them. `Err(NotFound)` if `index` is out
    /// of range.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// println!("{} instructions", vm.prog_code_at(0)?.instructions.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn prog_code_at(&self, index: usize) -> Result<ProgCode> {
        let inner = self.inner()?;
        let session = inner.session()?;
        let count = session.prog_count();
        if index < count { Ok(session.prog_code(index)) } else { Err(out_of_range("program", index, count)) }
    }

    /// Sets whether [`load`](Vm::load) loads a program. `Err(State)` after load.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.prog_set_autoload("trace_tcp_v6", false)?;
    /// vm.attach()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn prog_set_autoload(&self, prog: &str, on: bool) -> Result<()> {
        self.inner()?.session_mut()?.set_autoload(prog, on)
    }

    /// Sets what a program attaches to; this takes precedence over the package. `json` is an object with the keys of an entry
    /// of `progs[]` in the package (docs/package.md), or an array of such objects. Before [`attach`](Vm::attach) only.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.prog_set_target_json("probe_malloc", r#"{"path": "/usr/bin/app", "func": "malloc"}"#)?;
    /// vm.attach()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn prog_set_target_json(&self, prog: &str, json: &str) -> Result<()> {
        self.inner()?.session_mut()?.set_target(prog, json)
    }

    /// Returns a description of the package and its state as JSON: programs, maps, variables, sources.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// println!("{}", vm.describe()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn describe(&self) -> Result<String> {
        Ok(self.inner()?.session()?.describe())
    }
}
