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
        let given = [run.data.len(), run.context.len()];
        let buffers = [run.data_out.len(), run.context_out.len()];
        prog_run(prog, run, result).map_err(|e| about(failed(e, given, buffers, result)))
    }
}

/// Explains why the kernel did not run a program. `given` and `buffers` are pairs of sizes, for data and for context:
/// those of the input and those of the output buffers.
fn failed(e: Errno, given: [usize; 2], buffers: [usize; 2], result: &ProgResult) -> Error {
    let both = |[data, context]: [usize; 2]| format!("{data} bytes of data and {context} of context");
    let error = |status, text: &str| Error::sys(status, e.0, format_args!("test run: {text}"));
    match e.0 {
        libc::ENOSPC => {
            let (out, [data, context]) = (both([result.data_len, result.context_len]), buffers);
            Error::new(
                Status::TooSmall,
                format_args!("the output has {out}, the buffers have {data} and {context}"),
            )
        }
        ENOTSUPP | libc::EOPNOTSUPP => {
            Error::sys(Status::Unsupported, e.0, "this kernel has no test runs for programs of its type")
        }
        libc::EINVAL | libc::E2BIG => {
            error(Status::Inval, &format!("its type does not accept this input ({})", both(given)))
        }
        libc::EPERM => error(Status::Perm, "CAP_BPF or a capability of its type is missing"),
        _ => error(Status::System, &e.to_string()),
    }
}
