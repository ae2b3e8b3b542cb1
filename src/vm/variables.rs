//! Global variables, and the command line that sets them.

use super::state::{Vm, json_text};
use crate::error::{Error, Result, Status};

impl Vm {
    /// Sets a global variable from JSON: a number, a string, an array or an object, as its type requires. Members
    /// that an object leaves out keep their values; anything else is replaced as a whole.
    ///
    /// A constant (`const volatile`) can be set before [`load`](Vm::load) only, any other variable at any time.
    ///
    /// # Errors
    ///
    /// [`Status::Inval`] if `json` is malformed, [`Status::NotFound`] if there is no such variable, [`Status::Type`] if the
    /// value does not fit it.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.var_set_json("min_duration_ns", "1000000")?;
    /// vm.var_set_json("target", r#"{"pid": 1, "comm": "init"}"#)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn var_set_json(&self, name: &str, json: &str) -> Result<()> {
        let mut inner = self.inner()?;
        let session = inner.session_mut()?;
        let bad = |e| Error::new(Status::Inval, e).about_variable(name);
        session.set_var_json(name, &serde_json::from_slice(json.as_bytes()).map_err(bad)?)
    }

    /// Sets a global variable from its bytes, in the byte order of the machine. `bytes` must be as long as the
    /// variable. [`Vm::var_set_json`] describes when a variable can be set.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.var_set("min_duration_ns", &1_000_000_u64.to_ne_bytes())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn var_set(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.inner()?.session_mut()?.set_var(name, bytes)
    }

    /// Returns the current value of a global variable as JSON.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// println!("{}", vm.var_get_json("counters")?); // such as [3,0,17]
    /// # Ok(())
    /// # }
    /// ```
    pub fn var_get_json(&self, name: &str) -> Result<String> {
        self.inner()?.session()?.var_json(name).map(json_text)
    }

    /// Returns the bytes of a global variable.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let total = u64::from_ne_bytes(vm.var_get("total")?.as_slice().try_into()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn var_get(&self, name: &str) -> Result<Vec<u8>> {
        self.inner()?.session()?.var_bytes(name)
    }

    /// Sets variables from a command line whose options the package describes. `argv[0]` is the name of the program.
    ///
    /// Returns `true` if the command line asks for help or the version. The caller then prints [`Vm::args_help`], and no
    /// variable has been set.
    ///
    /// # Errors
    ///
    /// [`Status::Inval`] if an option is unknown or malformed.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// if vm.args_set(&["opensnoop", "--pid", "1"])? {
    ///     println!("{}", vm.args_help()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn args_set(&self, argv: &[&str]) -> Result<bool> {
        let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
        self.inner()?.session_mut()?.set_args(&argv)
    }

    /// Returns the help text of the package's command line, or its version if the last [`Vm::args_set`] asked for that.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// println!("{}", vm.args_help()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn args_help(&self) -> Result<String> {
        Ok(self.inner()?.session()?.args_help())
    }
}
