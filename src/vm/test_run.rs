//! Test runs: runs a program with input of the host, without its hook.

use super::state::Vm;
use crate::bpf::session::test_run::ProgRun;
use crate::error::Result;

pub use crate::bpf::session::test_run::ProgResult;

/// The input of [`Vm::prog_run`], and the buffers for its output.
///
/// The type of a program determines which of them it accepts. An XDP or traffic control program accepts a packet as
/// data; a raw tracepoint program accepts the arguments of its tracepoint as context.
#[derive(Debug, Default)]
#[must_use]
pub struct ProgInput<'a>(ProgRun<'a>);

impl<'a> ProgInput<'a> {
    /// Returns an empty input, for one run.
    pub fn new() -> ProgInput<'a> {
        ProgInput::default()
    }

    /// Sets the packet.
    pub fn data(mut self, data: &'a [u8]) -> ProgInput<'a> {
        self.0.data = data;
        self
    }

    /// Sets the context, a struct of the program's type.
    pub fn context(mut self, context: &'a [u8]) -> ProgInput<'a> {
        self.0.context = context;
        self
    }

    /// Sets the buffer for the packet after the last run.
    pub fn data_out(mut self, buffer: &'a mut [u8]) -> ProgInput<'a> {
        self.0.data_out = buffer;
        self
    }

    /// Sets the buffer for the context after the last run.
    pub fn context_out(mut self, buffer: &'a mut [u8]) -> ProgInput<'a> {
        self.0.context_out = buffer;
        self
    }

    /// Sets how many times the program runs. 0, the default, is one run. Raw tracepoint programs accept only 0.
    pub fn repeat(mut self, count: u32) -> ProgInput<'a> {
        self.0.repeat = count;
        self
    }
}

impl Vm {
    /// Runs a loaded program with `input`, and returns its return value. The program need not be attached. Its side
    /// effects are real: it changes maps and sends events.
    ///
    /// # Errors
    ///
    /// [`Status::State`](crate::Status::State) if the program is not loaded,
    /// [`Status::Inval`](crate::Status::Inval) if the input does not fit the type of the program,
    /// [`Status::TooSmall`](crate::Status::TooSmall) if a buffer is too small for the output,
    /// [`Status::Unsupported`](crate::Status::Unsupported) if the kernel cannot run programs of this type.
    ///
    /// ```no_run
    /// use eunomia::vm::ProgInput;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let (packet, mut rewritten) = ([0; 64], [0; 256]);
    /// let run = vm.prog_run("filter", ProgInput::new().data(&packet).data_out(&mut rewritten).repeat(1000))?;
    /// println!("returned {}, {:?} a run", run.return_value, run.duration);
    /// println!("{:02x?}", &rewritten[..run.data_len]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn prog_run(&self, prog: &str, input: ProgInput<'_>) -> Result<ProgResult> {
        let mut result = ProgResult::default();
        self.prog_run_into(prog, input, &mut result)?;
        Ok(result)
    }

    /// As [`Vm::prog_run`]. With `TooSmall`, the sizes in `result` are those that the buffers need.
    pub(crate) fn prog_run_into(
        &self,
        prog: &str,
        input: ProgInput<'_>,
        result: &mut ProgResult,
    ) -> Result<()> {
        self.inner()?.session()?.prog_run(prog, input.0, result)
    }
}
