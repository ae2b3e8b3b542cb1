//! Test runs of programs.

use std::ffi::{c_char, c_int};

use super::args::{self, CStruct, Out, bytes, bytes_mut, read_struct, string};
use super::guard::guard;
use super::handle::eunomia_vm;
use super::types::{eunomia_prog_input, eunomia_prog_result};
use crate::error::{Result, Status};
use crate::vm::{ProgInput, ProgResult};

/// ---- Test runs ----
///
/// Runs a loaded program with input of the caller (BPF_PROG_TEST_RUN). The program need not be
/// attached. Its side effects are real: it changes maps and sends events.
///
///   prog  name of the program
///   in    the input; NULL: no data, the default context, one run
///   out   receives the result; set out->size first
///
/// The type of the program determines its input. An XDP or traffic control program takes a packet as
/// data. A raw tracepoint program takes the arguments of its tracepoint as ctx, one uint64_t each.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND    no such program
///   EUNOMIA_ERR_INVAL        the program's type does not accept this input
///   EUNOMIA_ERR_STATE        the program is not loaded
///   EUNOMIA_ERR_TOO_SMALL    data_out or ctx_out is too small; data_len and ctx_len of out are the
///                            required sizes
///   EUNOMIA_ERR_UNSUPPORTED  the kernel has no test runs for programs of this type
///   EUNOMIA_ERR_PERM         a privilege is missing
///   EUNOMIA_ERR_SYSTEM       the system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_prog_run(
    vm: *mut eunomia_vm,
    prog: *const c_char,
    r#in: *const eunomia_prog_input,
    out: *mut eunomia_prog_result,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| run(vm, string(prog, "prog")?, r#in, Out::new(out, "out")?)) }
}

/// Runs the program and writes the result.
///
/// # Safety
/// `input` is null or points to a struct whose pointers refer to as many bytes as its sizes specify.
unsafe fn run(
    vm: &eunomia_vm,
    prog: &str,
    input: *const eunomia_prog_input,
    out: Out<eunomia_prog_result>,
) -> Result<()> {
    let mut given = eunomia_prog_input::zero();
    if !input.is_null() {
        // SAFETY: as required above.
        unsafe { read_struct(input, &mut given, "in") }?;
    }
    if given.reserved != 0 {
        return Err(args::invalid("in->reserved is not 0"));
    }
    let mut result = ProgResult::default();
    // SAFETY: as required above.
    let done = vm.vm.prog_run_into(prog, unsafe { prog_input(&given) }?, &mut result);
    let (data_len, ctx_len) = (result.data_len, result.context_len);
    let (return_value, duration_ns) = (result.return_value, result.duration.as_nanos() as u32);
    match &done {
        Ok(()) => out.write(eunomia_prog_result { size: 0, return_value, duration_ns, data_len, ctx_len }),
        Err(error) if error.status() == Status::TooSmall => {
            out.write(eunomia_prog_result { data_len, ctx_len, ..out.current() });
        }
        Err(_) => {}
    }
    done
}

/// Converts the input, whose buffers must not overlap.
///
/// # Safety
/// The pointers of `of` are null or refer to as many bytes as its sizes specify.
unsafe fn prog_input<'a>(of: &eunomia_prog_input) -> Result<ProgInput<'a>> {
    let outs = [(of.data_out.cast_const(), of.data_out_cap), (of.ctx_out.cast_const(), of.ctx_out_cap)];
    let ins = [(of.data, of.data_len), (of.ctx, of.ctx_len)];
    args::disjoint(outs[0], outs[1], "in->data_out and in->ctx_out")?;
    for (out, r#in) in outs.iter().flat_map(|out| ins.iter().map(move |r#in| (*out, *r#in))) {
        args::disjoint(out, r#in, "input and output")?;
    }
    // SAFETY: as required above; no output overlaps another buffer.
    unsafe {
        Ok(ProgInput::new()
            .data(bytes(of.data, of.data_len, "in->data")?)
            .context(bytes(of.ctx, of.ctx_len, "in->ctx")?)
            .data_out(bytes_mut(of.data_out, of.data_out_cap, "in->data_out")?)
            .context_out(bytes_mut(of.ctx_out, of.ctx_out_cap, "in->ctx_out")?)
            .repeat(of.repeat))
    }
}
