//! The result of a run: an exit code, or the error that says why the guest ended.

use super::state::{End, State};
use super::sys::guest::Trap;
use super::watchdog::cause;
use crate::error::{Error, Result, Status};

/// Returns the result of a run. `returned` is what its main function returned, `cause` why it was stopped, and
/// `is_starved` whether its memory could not grow.
pub fn outcome(state: &State<'_>, returned: Result<i32, Trap>, cause: u32, is_starved: bool) -> Result<i32> {
    let (end, first_trap) = state.take_end();
    match (end, returned, cause) {
        (Some(End::Exit(code)), ..) => Ok(code),
        (Some(End::Stopped), ..) | (None, _, cause::STOP) => {
            Err(Error::new(Status::Stopped, "stop was called"))
        }
        (Some(End::Callback), ..) => Ok(0),
        (Some(End::Failed(error)), ..) => Err(error),
        (None, Ok(code), 0) => Ok(code),
        (None, Ok(_), _) | (None, Err(_), cause::BUDGET) => Err(overdue(state)),
        (None, Err(trap), _) => Err(trapped(state, first_trap.unwrap_or(trap), is_starved)),
    }
}

fn overdue(state: &State<'_>) -> Error {
    let (function, budget) = (state.function(), state.config.time_limit().as_millis());
    let text = format!("the guest took longer than {budget} ms (options.wasm_budget_ms) in {function}");
    Error::new(Status::Wasm, text).with_detail(&format!("in {function}"))
}

fn trapped(state: &State<'_>, trap: Trap, is_starved: bool) -> Error {
    let function = state.function();
    let Trap { message, trace } = trap;
    let text = if message.ends_with("stack overflow") {
        format!("the guest ran out of stack in {function} ({message}; options.wasm_stack)")
    } else if is_starved {
        let limit = state.config.limits().memory;
        format!("the guest ran out of memory in {function} ({limit} bytes, options.wasm_memory; {message})")
    } else {
        format!("the guest trapped in {function}: {message}")
    };
    let detail = if trace.is_empty() { format!("in {function}") } else { trace };
    Error::new(Status::Wasm, text).with_detail(&detail)
}
