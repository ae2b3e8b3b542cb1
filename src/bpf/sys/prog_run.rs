//! Runs a loaded program once or repeatedly with input of the host (BPF_PROG_TEST_RUN of bpf(2)).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libbpf_sys as b;

use super::object::pointer_or_null;
use super::result::check;
use crate::os::{self, Errno};

/// Makes the kernel count the runs of all programs and their time, as long as the descriptor is open. It needs CAP_SYS_ADMIN.
pub fn count_runs() -> os::Result<OwnedFd> {
    // SAFETY: a number only; the descriptor is new, and nothing else knows it.
    unsafe { Ok(OwnedFd::from_raw_fd(check(b::bpf_enable_stats(b::BPF_STATS_RUN_TIME))?)) }
}

/// The input of a test run, and the buffers for its output.
#[derive(Debug, Default)]
pub struct ProgRun<'a> {
    /// The packet.
    pub data: &'a [u8],
    /// The context.
    pub context: &'a [u8],
    /// Receives the packet after the last run.
    pub data_out: &'a mut [u8],
    /// Receives the context after the last run.
    pub context_out: &'a mut [u8],
    /// The number of runs; 0 is one.
    pub repeat: u32,
}

/// The result of a test run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgResult {
    /// The program's return value, of the last run.
    pub return_value: u32,
    /// The mean time of one run. Zero for programs whose runs the kernel does not time.
    pub duration: Duration,
    /// The size of the packet after the last run.
    pub data_len: usize,
    /// The size of the context after the last run.
    pub context_len: usize,
}

/// Runs the program `prog`. With ENOSPC, the sizes in `result` are those that the buffers need.
pub fn prog_run(prog: RawFd, run: ProgRun<'_>, result: &mut ProgResult) -> os::Result<()> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| Errno(libc::E2BIG));
    let mut opts = b::bpf_test_run_opts {
        sz: size_of::<b::bpf_test_run_opts>() as _,
        data_in: pointer_or_null(run.data),
        data_size_in: len(run.data)?,
        data_size_out: len(run.data_out)?,
        data_out: pointer_or_null(run.data_out).cast_mut(),
        ctx_in: pointer_or_null(run.context),
        ctx_size_in: len(run.context)?,
        ctx_size_out: len(run.context_out)?,
        ctx_out: pointer_or_null(run.context_out).cast_mut(),
        repeat: i32::try_from(run.repeat).map_err(|_| Errno(libc::E2BIG))?,
        ..Default::default()
    };
    // SAFETY: the pointers refer to as many bytes as the sizes say, until the call returns.
    let done = check(unsafe { b::bpf_prog_test_run_opts(prog, &mut opts) });
    *result = ProgResult {
        return_value: opts.retval,
        duration: Duration::from_nanos(opts.duration.into()),
        data_len: opts.data_size_out as usize,
        context_len: opts.ctx_size_out as usize,
    };
    done.map(drop)
}
