//! Test runs of programs with input of the host.

use super::Session;
use crate::bpf::constants::ENOTSUPP;
use crate::bpf::sys::prog_run::prog_run;
pub use crate::bpf::sys::prog_run::{ProgResult, ProgRun};
use crate::error::{Error, Result, Status};
use crate::os::Errno;

impl Session {
    /// Runs the program `name`. With `TooSmall`, the sizes in `result` are those that the buffers need.
    pub fn prog_run(&self, name: &str, run: ProgRun<'_>, result: &mut ProgResult) -> Result<()> {
        let index = self.prog_index(name)?;
        let section = self.progs[index].section.to_string_lossy();
        let about = |error: Error| error.about_program(name, &section);
        let prog = self.opened.object.prog(index).fd();
        let prog = prog.ok_or_else(|| about(Error::new(Status::State, "it is not loaded")))?;
        let [data, context] = [run.data.len(), run.context.len()];
        let buffers = [run.data_out.len(), run.context_out.len()];
        prog_run(prog, run, result).map_err(|e| about(failed(e, [data, context], buffers, result)))
    }
}

/// Explains why the kernel did not run a program.
fn failed(e: Errno, [data, context]: [usize; 2], buffers: [usize; 2], result: &ProgResult) -> Error {
    match e.0 {
        libc::ENOSPC => {
            let (data, context) = (result.data_len, result.context_len);
            let text = format!(
                "the output has {data} bytes of data and {context} of context, the buffers have {} and {}",
                buffers[0], buffers[1]
            );
            Error::new(Status::TooSmall, text)
        }
        ENOTSUPP | libc::EOPNOTSUPP => {
            Error::sys(Status::Unsupported, e.0, "this kernel has no test runs for programs of its type")
        }
        libc::EINVAL | libc::E2BIG => {
            let input = format_args!("{data} bytes of data and {context} of context").to_string();
            Error::sys(
                Status::Inval,
                e.0,
                format_args!("test run: its type does not accept this input ({input})"),
            )
        }
        libc::EPERM => {
            Error::sys(Status::Perm, e.0, "test run: CAP_BPF or a capability of its type is missing")
        }
        _ => Error::sys(Status::System, e.0, format_args!("test run: {e}")),
    }
}
