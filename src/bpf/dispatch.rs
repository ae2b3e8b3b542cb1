//! Which programs can be attached through a dispatcher, a small program that calls the program of the current version.

use super::attach::OF_CGROUPS;
use super::constants::{attach_type, helper, prog_type};
use super::sys::object::ProgRef;

pub use super::sys::dispatch::{Dispatcher, Generation};

/// The program types whose links the kernel can update, in addition to those that attach to a control group.
const UPDATED: [u32; 4] =
    [prog_type::XDP, prog_type::SK_LOOKUP, prog_type::FLOW_DISSECTOR, prog_type::SCHED_CLS];

/// Whether the kernel can make a link of such a program run another one.
pub fn can_update(prog: ProgRef<'_>) -> bool {
    UPDATED.contains(&prog.kind()) || OF_CGROUPS.contains(&prog.kind())
}

/// Returns why a program cannot be called by a dispatcher. `place` is the section, or the target that replaces it.
pub fn why_not(prog: ProgRef<'_>, place: &str) -> Option<&'static str> {
    let kind = place.split('/').next().unwrap_or_default();
    let is_hook = match prog.kind() {
        prog_type::KPROBE | prog_type::TRACEPOINT | prog_type::RAW_TRACEPOINT | prog_type::PERF_EVENT => true,
        prog_type::TRACING => prog.expected_attach_type() != attach_type::ITER,
        prog_type::LSM => prog.expected_attach_type() == attach_type::LSM_MAC,
        _ => false,
    };
    match () {
        () if !is_hook => Some("programs of its type cannot be swapped"),
        // The kernel accepts a sleepable program in a slot, and the program would then sleep where that is not allowed.
        () if kind.ends_with(".s") => Some("it is sleepable"),
        () if prog.calls_helper(helper::OVERRIDE_RETURN) => Some("it calls bpf_override_return"),
        () => None,
    }
}

/// Loads the dispatcher of a loaded program. Its slots are empty.
pub fn load(prog: ProgRef<'_>, generation: &Generation) -> crate::os::Result<Dispatcher> {
    let (kind, attach_type) = (prog.kind(), prog.expected_attach_type());
    let is_traced = kind == prog_type::KPROBE && attach_type == 0 || kind == prog_type::TRACEPOINT;
    // If the dispatcher returned 0, the kernel would drop the events of other users of the same probe.
    let result = i32::from(is_traced);
    let has_ip = kind == prog_type::TRACING && attach_type != attach_type::RAW_TP;
    // Linux before 5.15 has no bpf_get_func_ip; no program on such a kernel can ask for the address.
    let loaded = Dispatcher::new(prog, generation, result, has_ip);
    if has_ip && loaded.is_err() { Dispatcher::new(prog, generation, result, false) } else { loaded }
}
