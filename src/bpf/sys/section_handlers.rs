//! Handlers for sections of programs that attach by the BTF id of a hook (fentry, tp_btf, iter), if that id is already known.
//!
//! To find such an id, libbpf reads, checks and indexes all types of the kernel for each object, which takes longer than the rest
//! of the load. For a program that attaches to another program, libbpf does not search: it passes the descriptor of
//! that program to the handler of the section. So the library passes the id as if it were such a descriptor, and its
//! own handlers, which replace libbpf's, move it to the right field.
//!
//! Handlers are process-wide. They are registered only if no other part of the process uses this libbpf (feature `own-libbpf`): in
//! libeunomia.so and libeunomia.a, which hide their libbpf, and in the tools. `Options::libbpf_sections` turns them off.

use std::ffi::{CStr, c_int, c_long};
use std::sync::OnceLock;

use libbpf_sys as b;

use super::object::{Object, ProgRef};
use crate::btf::Hook;
use crate::package::NameIndex;

/// A function that attaches a program of a section.
type Attach = unsafe extern "C" fn(*const b::bpf_program, c_long, *mut *mut b::bpf_link) -> c_int;

/// Sections, their attach type, and whether the program may sleep.
const SECTIONS: [(&CStr, b::bpf_attach_type, bool, Attach); 11] = [
    (c"tp_btf+", b::BPF_TRACE_RAW_TP, false, attach_trace),
    (c"fentry+", b::BPF_TRACE_FENTRY, false, attach_trace),
    (c"fentry.s+", b::BPF_TRACE_FENTRY, true, attach_trace),
    (c"fexit+", b::BPF_TRACE_FEXIT, false, attach_trace),
    (c"fexit.s+", b::BPF_TRACE_FEXIT, true, attach_trace),
    (c"fmod_ret+", b::BPF_MODIFY_RETURN, false, attach_trace),
    (c"fmod_ret.s+", b::BPF_MODIFY_RETURN, true, attach_trace),
    (c"fsession+", b::BPF_TRACE_FSESSION, false, attach_trace),
    (c"fsession.s+", b::BPF_TRACE_FSESSION, true, attach_trace),
    (c"iter+", b::BPF_TRACE_ITER, false, attach_iterator),
    (c"iter.s+", b::BPF_TRACE_ITER, true, attach_iterator),
];

/// Set once registration was attempted.
static REGISTERED: OnceLock<bool> = OnceLock::new();

/// Whether the handlers are registered.
pub fn is_registered() -> bool {
    REGISTERED.get() == Some(&true)
}

/// Registers the handlers at the first call: all of them, or none if libbpf lacks memory for one.
pub fn register() {
    REGISTERED.get_or_init(|| {
        let mut ids = Vec::new();
        let is_done = cfg!(feature = "own-libbpf")
            && SECTIONS.into_iter().all(|handler| {
                let id = register_one(handler);
                ids.push(id);
                id > 0
            });
        if !is_done {
            for id in ids {
                // SAFETY: libbpf refuses a number that is not the id of a handler.
                unsafe { b::libbpf_unregister_prog_handler(id) };
            }
        }
        is_done
    });
}

/// Registers one handler. Returns its id; a negative number is an error.
fn register_one((section, kind, sleeps, attach): (&CStr, b::bpf_attach_type, bool, Attach)) -> c_int {
    let opts = b::libbpf_prog_handler_opts {
        sz: size_of::<b::libbpf_prog_handler_opts>() as _,
        cookie: sleeps.into(),
        prog_prepare_load_fn: Some(prepare),
        prog_attach_fn: Some(attach),
        ..Default::default()
    };
    // SAFETY: libbpf copies the string and `opts`.
    unsafe { b::libbpf_register_prog_handler(section.as_ptr(), b::BPF_PROG_TYPE_TRACING, kind, &opts) }
}

/// Sets the hooks of the programs that are to be loaded, before load.
pub fn set_hooks(object: &Object, hooks: &[Hook]) {
    if !is_registered() {
        return;
    }
    let mut ids = NameIndex::default();
    for hook in hooks {
        ids.insert(&hook.section, hook.id as usize);
    }
    let is_tracing = |prog: &ProgRef<'_>| prog.autoload() && prog.kind() == b::BPF_PROG_TYPE_TRACING;
    object.progs().filter(is_tracing).for_each(|prog| set_hook(prog, &ids));
}

/// Sets the hook of one program, if it attaches by BTF id.
fn set_hook(prog: ProgRef<'_>, ids: &NameIndex) {
    let section = prog.section().to_bytes_with_nul();
    let id = ids.get(&prog.section().to_string_lossy()).map_or(0, |id| id as c_int);
    let name = section.iter().position(|&byte| byte == b'/').map(|at| &section[at + 1..]);
    // SAFETY: a setter that fails on a loaded object; the name is NUL-terminated. If it fails, the handler gets no hook, and
    // the load fails with a message.
    unsafe {
        match (id, name) {
            // A hook of a module, for which libbpf searches all types.
            (0, Some(name)) => b::bpf_program__set_attach_target(prog.ptr(), 0, name.as_ptr().cast()),
            (0, None) => 0,
            _ => b::bpf_program__set_attach_target(prog.ptr(), id, std::ptr::null()),
        };
    }
}

/// Completes the options with which libbpf loads a program.
unsafe extern "C" fn prepare(
    _: *mut b::bpf_program,
    opts: *mut b::bpf_prog_load_opts,
    sleeps: c_long,
) -> c_int {
    // SAFETY: libbpf passes options that are valid during this call.
    let opts = unsafe { &mut *opts };
    if sleeps != 0 {
        opts.prog_flags |= b::BPF_F_SLEEPABLE;
    }
    // For a hook of a module libbpf has already set the id.
    if opts.attach_btf_id == 0 {
        opts.attach_btf_id = std::mem::take(&mut opts.attach_prog_fd);
    }
    if opts.attach_btf_id == 0 { -libc::ESRCH } else { 0 }
}

unsafe extern "C" fn attach_trace(
    prog: *const b::bpf_program,
    _: c_long,
    link: *mut *mut b::bpf_link,
) -> c_int {
    // SAFETY: libbpf passes its program and a pointer for the link; null is a failure, and errno is set.
    unsafe { return_link(b::bpf_program__attach_trace(prog), link) }
}

unsafe extern "C" fn attach_iterator(
    prog: *const b::bpf_program,
    _: c_long,
    link: *mut *mut b::bpf_link,
) -> c_int {
    // SAFETY: as above; null options are the defaults.
    unsafe { return_link(b::bpf_program__attach_iter(prog, std::ptr::null()), link) }
}

/// Returns a link, or the error, to libbpf.
unsafe fn return_link(link: *mut b::bpf_link, to: *mut *mut b::bpf_link) -> c_int {
    // SAFETY: libbpf passed `to`.
    unsafe { *to = link };
    if link.is_null() { -crate::os::Errno::last().0 } else { 0 }
}
