//! Programs that attach by the BTF id of a hook, where that id is known before libbpf looks for it.
//!
//! libbpf would read, check and index all types of the kernel for each object that has such a program, which takes longer
//! than all else that is done to load it. It does not where the program belongs to another program, and hands what it is
//! told of that one to the handler of the section. So the id is passed as if it were the descriptor of another program, and
//! the handlers here, which stand in for libbpf's own, put it where it belongs.
//!
//! Handlers are of the process. They are used only where libbpf is (feature `own-libbpf`): in libeunomia.so and libeunomia.a,
//! which keep theirs to themselves, and in our tools.

use std::ffi::{CStr, c_int, c_long};
use std::sync::OnceLock;

use libbpf_sys as b;

use super::object::{Object, ProgRef};
use crate::btf::Hook;
use crate::package::NameIndex;

/// How libbpf attaches a program of a section.
type Attach = unsafe extern "C" fn(*const b::bpf_program, c_long, *mut *mut b::bpf_link) -> c_int;

/// Sections, their kind of attachment and whether the program may sleep.
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

/// Whether the handlers are in place. The first call puts them there, which has to be before the first object is opened:
/// all of them, or none if libbpf lacks the memory for one.
pub fn register() -> bool {
    static HANDLED: OnceLock<bool> = OnceLock::new();
    *HANDLED.get_or_init(|| {
        let mut ids = Vec::new();
        let is_done = cfg!(feature = "own-libbpf")
            && SECTIONS.into_iter().all(|handler| {
                let id = register_one(handler);
                ids.push(id);
                id > 0
            });
        if !is_done {
            for id in ids {
                // SAFETY: libbpf refuses what is no id of a handler.
                unsafe { b::libbpf_unregister_prog_handler(id) };
            }
        }
        is_done
    })
}

/// The id of the new handler; below 0 is an error.
fn register_one((section, kind, sleeps, attach): (&CStr, b::bpf_attach_type, bool, Attach)) -> c_int {
    let opts = b::libbpf_prog_handler_opts {
        sz: size_of::<b::libbpf_prog_handler_opts>() as _,
        cookie: sleeps.into(),
        prog_prepare_load_fn: Some(prepare),
        prog_attach_fn: Some(attach),
        ..Default::default()
    };
    // SAFETY: libbpf copies the text and `opts`.
    unsafe { b::libbpf_register_prog_handler(section.as_ptr(), b::BPF_PROG_TYPE_TRACING, kind, &opts) }
}

/// Says what the programs that are to be loaded attach to; before load.
pub fn set_hooks(object: &Object, hooks: &[Hook]) {
    if !register() {
        return;
    }
    let mut ids = NameIndex::default();
    for hook in hooks {
        ids.insert(&hook.section, hook.id as usize);
    }
    let is_meant = |prog: &ProgRef<'_>| prog.autoload() && prog.kind() == b::BPF_PROG_TYPE_TRACING;
    object.progs().filter(is_meant).for_each(|prog| set_hook(prog, &ids));
}

/// Of programs that attach to nothing by id nothing is to be said.
fn set_hook(prog: ProgRef<'_>, ids: &NameIndex) {
    let section = prog.section().to_bytes_with_nul();
    let id = ids.get(&prog.section().to_string_lossy()).map_or(0, |id| id as c_int);
    let name = section.iter().position(|&byte| byte == b'/').map(|at| &section[at + 1..]);
    // SAFETY: a setter that refuses on a loaded object; a name ends with NUL. What fails here fails, with a message,
    // when the program is loaded: a handler is then told of no hook.
    unsafe {
        match (id, name) {
            // A module's, for which libbpf looks at all types.
            (0, Some(name)) => b::bpf_program__set_attach_target(prog.ptr(), 0, name.as_ptr().cast()),
            (0, None) => 0,
            _ => b::bpf_program__set_attach_target(prog.ptr(), id, std::ptr::null()),
        };
    }
}

/// What libbpf is to tell the kernel of a program.
unsafe extern "C" fn prepare(
    _: *mut b::bpf_program,
    opts: *mut b::bpf_prog_load_opts,
    sleeps: c_long,
) -> c_int {
    // SAFETY: libbpf passes its options for this call alone.
    let opts = unsafe { &mut *opts };
    if sleeps != 0 {
        opts.prog_flags |= b::BPF_F_SLEEPABLE;
    }
    // Set already is the id of a module's.
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
    // SAFETY: libbpf passes its program and where the link goes; null is a failure, told by errno.
    unsafe { made(b::bpf_program__attach_trace(prog), link) }
}

unsafe extern "C" fn attach_iterator(
    prog: *const b::bpf_program,
    _: c_long,
    link: *mut *mut b::bpf_link,
) -> c_int {
    // SAFETY: as above; null options are the defaults.
    unsafe { made(b::bpf_program__attach_iter(prog, std::ptr::null()), link) }
}

/// Hands a link, or why there is none, to libbpf.
unsafe fn made(link: *mut b::bpf_link, to: *mut *mut b::bpf_link) -> c_int {
    // SAFETY: libbpf passed `to`.
    unsafe { *to = link };
    if link.is_null() { -crate::os::Errno::last().0 } else { 0 }
}
