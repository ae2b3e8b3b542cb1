//! Dispatchers: small programs that call the program of the current version of a package, and the maps that they use.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use libbpf_sys as b;

use super::map::MapFd;
use super::object::{ProgRef, pointer_or_null, program_info};
use super::result::check;
use super::ring::{map, unmap};
use crate::os::{self, Errno};

/// Bytes of the generation, of a key and of a value.
const WORD: usize = size_of::<u32>();

/// A number, 0 or 1, in kernel memory. All dispatchers of a package read it once per event.
pub struct Generation {
    fd: OwnedFd,
    word: NonNull<AtomicU32>,
}

// SAFETY: the mapping is tied to no thread, and is only accessed atomically.
unsafe impl Send for Generation {}
// SAFETY: as above.
unsafe impl Sync for Generation {}

impl Generation {
    /// Creates the number, which is 0.
    pub fn new() -> os::Result<Generation> {
        Generation::given(create_map(b::BPF_MAP_TYPE_ARRAY, 1, b::BPF_F_MMAPABLE)?)
    }

    /// Uses the number that another process has created.
    pub fn given(fd: OwnedFd) -> os::Result<Generation> {
        let word = map(fd.as_raw_fd(), libc::PROT_READ | libc::PROT_WRITE, 0, WORD)?.cast();
        Ok(Generation { fd, word })
    }

    /// The descriptor of its map.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Returns the number that is not the current one.
    pub fn next(&self) -> u32 {
        // SAFETY: the mapping has four bytes, starts at a page, and exists until drop.
        1 - unsafe { self.word.as_ref() }.load(SeqCst)
    }

    /// Makes the other number the current one: one store, which cannot fail.
    pub fn flip(&self) {
        // SAFETY: as above.
        unsafe { self.word.as_ref() }.store(self.next(), SeqCst);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        unmap(self.word.cast(), WORD);
    }
}

/// An instruction, `struct bpf_insn`.
type Instruction = [u8; 8];

const fn insn(code: u8, to: u8, from: u8, offset: u8, number: i32) -> Instruction {
    let [a, b, c, d] = number.to_le_bytes();
    [code, from << 4 | to, offset, 0, a, b, c, d]
}

const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const CALL: u8 = 0x85;
const TAIL_CALL: i32 = 12;
const GET_FUNC_IP: i32 = 173;

/// The code of a dispatcher. Each call has a constant index, which the kernel compiles to a direct jump. If the slot is
/// empty, the dispatcher continues with the next instruction. A trampoline stores the address of the function only if
/// the attached program calls bpf_get_func_ip, so the dispatcher calls it. The dispatcher reads as many arguments of a
/// raw tracepoint as the program, so that the kernel checks their number when it attaches the dispatcher.
const CODE: [Instruction; 16] = [
    insn(MOVE, 6, 1, 0, 0), // r6 = the context
    insn(0x18, 4, 2, 0, 0), // r4 = address of the generation
    insn(0, 0, 0, 0, 0),
    insn(0x61, 4, 4, 0, 0), // r4 = the generation
    insn(0x18, 2, 1, 0, 0), // r2 = the slots
    insn(0, 0, 0, 0, 0),
    insn(0x15, 4, 0, 3, 0), // if it is 0, go to the second call
    insn(MOVE_NUMBER, 3, 0, 0, 1),
    insn(CALL, 0, 0, 0, TAIL_CALL),
    insn(0x05, 0, 0, 2, 0),
    insn(MOVE_NUMBER, 3, 0, 0, 0),
    insn(CALL, 0, 0, 0, TAIL_CALL),
    insn(MOVE, 1, 6, 0, 0),
    insn(CALL, 0, 0, 0, GET_FUNC_IP),
    insn(MOVE_NUMBER, 0, 0, 0, 0), // the result without a program
    insn(0x95, 0, 0, 0, 0),
];
const GENERATION_AT: usize = 1;
const SLOTS_AT: usize = 4;
const ASKS_AT: usize = 13;
const RESULT_AT: usize = 14;

/// The dispatcher of a program, with a slot for each generation. It may have several links.
pub struct Dispatcher {
    prog: OwnedFd,
    slots: MapFd,
    /// Words of the context that the kernel has checked; `None` if another process has loaded the dispatcher.
    words: Option<u8>,
}

impl Dispatcher {
    /// Loads a dispatcher for a loaded program, with empty slots. `result`: its return value without a program. `has_ip`: whether
    /// programs of its type can ask for the address of the function that they are attached to.
    pub fn new(
        of: ProgRef<'_>,
        generation: &Generation,
        result: i32,
        has_ip: bool,
    ) -> os::Result<Dispatcher> {
        let slots = create_map(b::BPF_MAP_TYPE_PROG_ARRAY, 2, 0)?;
        let slots = MapFd::new(slots, WORD, WORD);
        let mut code = CODE;
        let mut set = |at: usize, number: i32| code[at][4..].copy_from_slice(&number.to_ne_bytes());
        set(GENERATION_AT, generation.fd.as_raw_fd());
        set(SLOTS_AT, slots.fd());
        set(RESULT_AT, result);
        let words = context_words(of)?;
        match words {
            0 if has_ip => {}
            0 => code[ASKS_AT] = code[RESULT_AT],
            _ => code[ASKS_AT] = insn(0x79, 0, 6, 8 * (words - 1), 0),
        }
        let info = program_info(of.raw_fd()?)?;
        let btf = if info.attach_btf_id > 0 { btf_of_hook(info.attach_btf_obj_id)? } else { None };
        let has_hook = matches!(of.kind(), b::BPF_PROG_TYPE_TRACING | b::BPF_PROG_TYPE_LSM);
        let attach_btf_id = match info.attach_btf_id {
            0 if has_hook => find_hook(of)?,
            id => id,
        };
        let mut opts = b::bpf_prog_load_opts {
            sz: size_of::<b::bpf_prog_load_opts>() as _,
            expected_attach_type: of.expected_attach_type(),
            attach_btf_id,
            attach_btf_obj_fd: btf.as_ref().map_or(0, |btf| btf.as_raw_fd() as _),
            ..Default::default()
        };
        let (name, license) = (of.name().as_ptr(), c"GPL".as_ptr());
        // SAFETY: all pointers live for the call, and `code` has so many instructions; the descriptor is new.
        let prog = unsafe {
            let loaded =
                b::bpf_prog_load(of.kind(), name, license, code.as_ptr().cast(), code.len() as _, &mut opts);
            OwnedFd::from_raw_fd(check(loaded)?)
        };
        Ok(Dispatcher { prog, slots, words: Some(words) })
    }

    /// Uses a dispatcher that another process has loaded, with its slots.
    pub fn given(prog: OwnedFd, slots: OwnedFd) -> Dispatcher {
        Dispatcher { prog, slots: MapFd::new(slots, WORD, WORD), words: None }
    }

    /// Makes a slot call a program, or none.
    pub fn fill(&self, slot: u32, prog: Option<RawFd>) -> os::Result<()> {
        match prog {
            Some(prog) => self.slots.update(&slot.to_ne_bytes(), &prog.to_ne_bytes(), 0),
            None => match self.slots.delete(&slot.to_ne_bytes()) {
                Err(Errno(libc::ENOENT)) => Ok(()),
                deleted => deleted,
            },
        }
    }

    /// Whether the kernel has checked that its hook has all arguments that a raw tracepoint program reads, and, with the links of
    /// this process, the record that a tracepoint program reads.
    pub fn covers(&self, prog: ProgRef<'_>) -> bool {
        match self.words {
            Some(most) => context_words(prog).is_ok_and(|words| words <= most),
            None => ![b::BPF_PROG_TYPE_RAW_TRACEPOINT, b::BPF_PROG_TYPE_TRACEPOINT].contains(&prog.kind()),
        }
    }

    /// Returns the descriptor of its own program, for which the kernel counts the runs.
    pub fn fd(&self) -> RawFd {
        self.prog.as_raw_fd()
    }

    /// The program array with its slots.
    pub fn slots(&self) -> RawFd {
        self.slots.fd()
    }

    /// Runs `attach` while the descriptor of `prog`, by which libbpf attaches it, refers to the dispatcher.
    pub fn instead_of<T>(&self, prog: ProgRef<'_>, attach: impl FnOnce() -> T) -> os::Result<T> {
        let fd = prog.raw_fd()?;
        let kept = os::duplicate(fd)?;
        set_descriptor(fd, self.fd())?;
        let attached = attach();
        set_descriptor(fd, kept.as_raw_fd()).map(|()| attached)
    }
}

/// Returns how many arguments a raw tracepoint program reads, up to the last one; 0 for other types. Nothing runs: the
/// kernel compares this number with the size of the given context before it looks for the given CPU, which does not
/// exist.
fn context_words(prog: ProgRef<'_>) -> os::Result<u8> {
    const MAX_ARGUMENTS: u8 = 12;
    let (fd, context) = (prog.raw_fd()?, [0; 8 * MAX_ARGUMENTS as usize]);
    let is_too_few = |words: &u8| {
        let mut opts = b::bpf_test_run_opts {
            sz: size_of::<b::bpf_test_run_opts>() as _,
            ctx_in: pointer_or_null(&context[..8 * usize::from(*words)]),
            ctx_size_in: 8 * u32::from(*words),
            flags: b::BPF_F_TEST_RUN_ON_CPU,
            cpu: i32::MAX as u32,
            ..Default::default()
        };
        // SAFETY: the context has that many bytes.
        check(unsafe { b::bpf_prog_test_run_opts(fd, &mut opts) }) == Err(Errno(libc::EINVAL))
    };
    let is_raw = prog.kind() == b::BPF_PROG_TYPE_RAW_TRACEPOINT;
    Ok(if is_raw { (0..MAX_ARGUMENTS).take_while(is_too_few).count() as u8 } else { 0 })
}

/// Returns the BTF with this id, in which the kernel looks up the type of a hook. `None` without CAP_SYS_ADMIN, which this requires.
/// The kernel then looks in its own BTF. The types of modules have greater ids than the kernel's own, so it cannot find a wrong hook.
fn btf_of_hook(id: u32) -> os::Result<Option<OwnedFd>> {
    // SAFETY: a number only.
    match check(unsafe { b::bpf_btf_get_fd_by_id(id) }) {
        // SAFETY: the descriptor is new, and nothing else knows it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(os::Errno(libc::EPERM)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds, by its section, what a program attaches to. Linux before 6.0 does not report it.
fn find_hook(of: ProgRef<'_>) -> os::Result<u32> {
    let section = of.section().to_bytes_with_nul();
    let refused = os::Errno(libc::EINVAL);
    let at = section.iter().position(|&byte| byte == b'/').ok_or(refused)?;
    let name = section[at + 1..].as_ptr().cast();
    // SAFETY: the name is NUL-terminated.
    let id = unsafe { b::libbpf_find_vmlinux_btf_id(name, of.expected_attach_type()) };
    u32::try_from(id).map_err(|_| refused)
}

/// Makes a descriptor refer to what another one refers to.
fn set_descriptor(fd: RawFd, other: RawFd) -> os::Result<()> {
    // SAFETY: the descriptor stays open; only the file that it refers to changes.
    os::check(unsafe { libc::dup3(other, fd, libc::O_CLOEXEC) }).map(drop)
}

/// Creates a map with keys and values of four bytes.
fn create_map(kind: u32, entries: u32, map_flags: u32) -> os::Result<OwnedFd> {
    let sz = size_of::<b::bpf_map_create_opts>() as _;
    let opts = b::bpf_map_create_opts { sz, map_flags, ..Default::default() };
    let name = c"eunomia".as_ptr();
    // SAFETY: the name and `opts` live for the call; the descriptor is new, and nothing else knows it.
    unsafe {
        let fd = check(b::bpf_map_create(kind, name, WORD as u32, WORD as u32, entries, &opts))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
