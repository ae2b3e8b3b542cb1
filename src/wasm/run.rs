//! One run of a guest, from its first instruction until everything that it loaded is gone.

use std::ffi::CString;
use std::sync::Arc;

use super::call::Args;
use super::config::Config;
use super::libc::heap::Heap;
use super::module::{Entry, Module};
use super::outcome::outcome;
use super::outlet::{Outlet, Vm};
use super::state::{End, EventForm, State};
use super::sys::guest::{Guest, Host, Trap};
use super::sys::instance::{Instance, PAGE};
use super::sys::stopper::Stopper;
use super::watchdog::Watch;
use super::{imports, rewrite};
use crate::error::{Error, Result, Status};
use crate::os::Errno;
use crate::package::compact;

/// Runs a guest until it ends and returns its exit code. `argv` includes the program's name.
pub fn run(
    module: &Module,
    config: &Config,
    vm: &Vm<'_>,
    argv: &[&str],
    outlet: &mut dyn Outlet,
) -> Result<i32> {
    let limits = config.limits();
    let (initial, limit) = (u64::from(module.pages) * u64::from(PAGE), u64::from(limits.memory));
    if initial > limit {
        let text =
            format!("the guest requires {initial} bytes of memory, but options.wasm_memory is {limit}");
        return Err(Error::new(Status::Wasm, text));
    }
    let system = |e: Errno| Error::sys(Status::System, e.0, format_args!("guest: {e}"));
    let stopper = Arc::new(Stopper::default());
    let watch = Watch::new(Arc::clone(&stopper), vm.stop_fd, config.time_limit()).map_err(system)?;
    let state = State::new(vm, config, watch, argv, outlet)?;
    let instance = Instance::new(Arc::clone(&module.module), limits, &state, Arc::clone(&stopper))?;
    if !module.has_malloc {
        state.set_heap(instance.guest().heap(limits.heap).map(|(at, len)| Heap::new(at, len)));
    }
    let returned = run_functions(&state, module, instance.guest(), argv);
    state.flush();
    let result = outcome(&state, returned, stopper.cause(), instance.is_starved());
    drop(instance);
    state.finish()?;
    result
}

impl Host for State<'_> {
    fn call(&self, import: usize, guest: Guest<'_>, args: &Args) -> Option<u64> {
        imports::call(import, self, guest, args)
    }
}

/// Calls the functions that run before main, then main. Returns the exit code.
fn run_functions(state: &State<'_>, module: &Module, guest: Guest<'_>, argv: &[&str]) -> Result<i32, Trap> {
    for export in rewrite::FIRST {
        let name = CString::new(export).unwrap_or_default();
        if let Some(function) = guest.function(&name, 0) {
            let name = if export == rewrite::START { "the start function" } else { export };
            state.timed(|| state.call(guest, name, function, &[]))?;
        }
    }
    if choose_event_form(state, module, guest)?.is_none() {
        return Ok(0);
    }
    match module.entry {
        Entry::BpfMain => call_bpf_main(state, guest, argv),
        Entry::Start => {
            let Some(start) = guest.function(c"_start", 0) else { return Ok(0) };
            state.call(guest, "_start", start, &[]).map(|_| 0)
        }
    }
}

fn call_bpf_main(state: &State<'_>, guest: Guest<'_>, argv: &[&str]) -> Result<i32, Trap> {
    let Some(main) = guest.function(c"bpf_main", 2) else { return Ok(0) };
    let mut json = compact(&serde_json::Value::from(argv)).into_bytes();
    let len = json.len() as u32;
    json.push(0);
    let allocated = state.timed(|| state.allocate(guest, len + 1))?;
    let Some(at) = allocated.filter(|&at| guest.write(at, &json).is_some()) else {
        state.end::<()>(End::Failed(state.no_memory(format_args!("{len} bytes of arguments"))));
        return Ok(0);
    };
    state.call(guest, "bpf_main", main, &[at, len]).map(|code| code as i32)
}

/// Determines how the guest gets events. `None` ends the guest: the host asked for a format that the guest cannot
/// pass on.
fn choose_event_form(state: &State<'_>, module: &Module, guest: Guest<'_>) -> Result<Option<()>, Trap> {
    const RAW: u32 = 0;
    if !module.has_handler {
        return Ok(Some(()));
    }
    let requested = match guest.function(c"eunomia_event_format", 0) {
        Some(format) => Some(state.timed(|| state.call(guest, "eunomia_event_format", format, &[]))?),
        None => None,
    };
    let is_raw = requested.map_or(state.config.raw_events, |format| format == RAW);
    let has_batches = guest.function(c"process_events", 3).is_some();
    let form = match (has_batches, is_raw) {
        (true, _) => EventForm::Batch,
        (false, true) => EventForm::Raw,
        (false, false) => EventForm::Json,
    };
    state.event_form.set(form);
    let other = state.outlet.borrow().format_other_than_json().filter(|_| form == EventForm::Json);
    if let Some(other) = other {
        let text = format!("format: {other} is not available, because the guest gets and returns JSON");
        state.end::<()>(End::Failed(Error::new(Status::Inval, text)));
        return Ok(None);
    }
    Ok(Some(()))
}
