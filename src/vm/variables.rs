//! Global variables, and the command line that sets them.

use super::state::{Vm, json_text};
use crate::error::{Error, Result, Status};

impl Vm {
    /// Sets a global variable from JSON. Constants before load, all others at any time.
    pub fn var_set_json(&self, name: &str, json: &str) -> Result<()> {
        let mut inner = self.inner()?;
        let session = inner.session_mut()?;
        let bad = |e| Error::new(Status::Inval, e).about_variable(name);
        session.set_var_json(name, &serde_json::from_slice(json.as_bytes()).map_err(bad)?)
    }

    /// Sets a global variable from its exact bytes.
    pub fn var_set(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.inner()?.session_mut()?.set_var(name, bytes)
    }

    /// A global variable as JSON.
    pub fn var_get_json(&self, name: &str) -> Result<String> {
        self.inner()?.session()?.var_json(name).map(json_text)
    }

    /// The bytes of a global variable.
    pub fn var_get(&self, name: &str) -> Result<Vec<u8>> {
        self.inner()?.session()?.var_bytes(name)
    }

    /// Sets variables from the command line that the package describes, `argv[0]` included. `true`: help or version
    /// was asked for instead, and [`Vm::args_help`] has the text.
    pub fn args_set(&self, argv: &[&str]) -> Result<bool> {
        let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
        self.inner()?.session_mut()?.set_args(&argv)
    }

    /// The help of that command line.
    pub fn args_help(&self) -> Result<String> {
        Ok(self.inner()?.session()?.args_help())
    }
}
