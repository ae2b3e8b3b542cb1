//! A BPF object of libbpf, with its maps and programs.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use libbpf_sys as b;

use super::result::{check, non_null};
use crate::bpf::constants::opcode;
use crate::error::Error;
use crate::os;

/// Size of an instruction.
pub const INSTRUCTION: usize = size_of::<b::bpf_insn>();

/// An opened or loaded object. Dropping it unloads the maps and programs that have no other reference.
pub struct Object {
    pub(super) ptr: Arc<Open>,
    maps: Vec<NonNull<b::bpf_map>>,
    progs: Vec<NonNull<b::bpf_program>>,
}

// SAFETY: libbpf does not tie an object to a thread; `Object` has one owner, and its methods take references.
unsafe impl Send for Object {}

/// libbpf's object, which is closed with the last reference. Links of USDT probes need the object that has created them.
pub struct Open(NonNull<b::bpf_object>);

// SAFETY: libbpf does not tie an object to a thread. A shared reference only keeps it open.
unsafe impl Send for Open {}
// SAFETY: as above.
unsafe impl Sync for Open {}

/// A map of an object.
#[derive(Clone, Copy)]
pub struct MapRef<'a>(NonNull<b::bpf_map>, PhantomData<&'a Object>);

/// A program of an object.
#[derive(Clone, Copy)]
pub struct ProgRef<'a>(pub(super) NonNull<b::bpf_program>, PhantomData<&'a Object>);

/// Options of `open`.
pub struct OpenOptions<'a> {
    /// Name of the object, the prefix of its internal maps.
    pub name: &'a CStr,
    /// Path of the kernel's BTF, if it is not that of the kernel itself.
    pub kernel_btf: Option<&'a CStr>,
    /// Directory for maps that are pinned by name.
    pub pin_path: Option<&'a CStr>,
}

/// A load in progress on this thread.
#[derive(Clone, Copy)]
struct Loading {
    object: *const Object,
    stop: RawFd,
    is_over: bool,
}

thread_local! {
    static LOADING: Cell<Option<Loading>> = const { Cell::new(None) };
}

/// Ends the load of this thread after the current map or program, if the host has stopped the vm. Called for each message of
/// libbpf, which is the only opportunity between two maps or programs.
pub(super) fn end_load_if_requested() {
    let Some(loading) = LOADING.get().filter(|loading| !loading.is_over) else { return };
    if !matches!(os::wait_readable(&[loading.stop], Some(Duration::ZERO)), Ok(Some(_))) {
        return;
    }
    LOADING.set(Some(Loading { is_over: true, ..loading }));
    // SAFETY: this thread is loading the object. The caller that does so has only a shared reference to it.
    let object = unsafe { &*loading.object };
    // Both setters fail if it is too late. libbpf checks the flag of each map and program just before it creates the
    // map or loads the program.
    object.maps.iter().for_each(|map| {
        // SAFETY: a setter of libbpf.
        unsafe { b::bpf_map__set_autocreate(map.as_ptr(), false) };
    });
    let _ = object.progs().try_for_each(|prog| prog.set_autoload(false));
}

impl Object {
    /// Parses an ELF object. libbpf copies the bytes.
    pub fn open(elf: &[u8], options: &OpenOptions<'_>) -> os::Result<Object> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        let opts = b::bpf_object_open_opts {
            sz: size_of::<b::bpf_object_open_opts>() as _,
            object_name: options.name.as_ptr(),
            btf_custom_path: pointer(options.kernel_btf),
            pin_root_path: pointer(options.pin_path),
            // With null libbpf would read LIBBPF_BPF_TOKEN_PATH from the host's environment.
            bpf_token_path: c"".as_ptr(),
            ..Default::default()
        };
        // SAFETY: `elf` and the strings in `opts` live for the call.
        let raw = unsafe { b::bpf_object__open_mem(elf.as_ptr().cast(), elf.len() as _, &opts) };
        let ptr = non_null(raw)?;
        // SAFETY: the iterators accept null for the first element and end with null.
        let (maps, progs) = unsafe {
            let map = |prev: *mut _| b::bpf_object__next_map(ptr.as_ptr(), prev);
            let prog = |prev: *mut _| b::bpf_object__next_program(ptr.as_ptr(), prev);
            (elements(map), elements(prog))
        };
        Ok(Object { ptr: Arc::new(Open(ptr)), maps, progs })
    }

    /// Creates the maps and loads the programs. Fails with ECANCELED when `stop` becomes readable.
    ///
    /// libbpf prints the verifier's statistics of each program, so that the load can end between any two programs. For
    /// the program that is `traced` it prints the whole log.
    pub fn load(&mut self, traced: Option<usize>, stop: RawFd) -> os::Result<()> {
        const STATISTICS: u32 = 4; // BPF_LOG_STATS
        for (index, prog) in self.progs().enumerate().filter(|(_, prog)| prog.autoload()) {
            let level = if traced == Some(index) { 0 } else { STATISTICS };
            // SAFETY: a setter that fails on a loaded object.
            unsafe { b::bpf_program__set_log_level(prog.ptr(), level) };
        }
        LOADING.set(Some(Loading { object: self, stop, is_over: false }));
        end_load_if_requested();
        let is_over = || LOADING.get().is_some_and(|loading| loading.is_over);
        // SAFETY: `ptr` is valid until drop.
        let loaded = if is_over() { 0 } else { unsafe { b::bpf_object__load(self.ptr.0.as_ptr()) } };
        let loaded = if is_over() { -libc::ECANCELED } else { loaded };
        LOADING.set(None);
        check(loaded).map(drop)
    }

    /// The BTF of the object, as libbpf has completed it (offsets of global variables).
    pub fn btf(&self) -> Option<&[u8]> {
        // SAFETY: the BTF belongs to the object; its raw data stays valid until the BTF is modified, which this crate does not do.
        unsafe {
            let btf = b::bpf_object__btf(self.ptr.0.as_ptr());
            if btf.is_null() {
                return None;
            }
            let mut size = 0;
            let data = b::btf__raw_data(btf, &mut size);
            (!data.is_null()).then(|| std::slice::from_raw_parts(data.cast(), size as usize))
        }
    }

    /// All maps, including internal ones, in libbpf's order.
    pub fn maps(&self) -> impl ExactSizeIterator<Item = MapRef<'_>> {
        self.maps.iter().map(|&map| MapRef(map, PhantomData))
    }

    /// The map with that index in `maps`.
    pub fn map(&self, index: usize) -> MapRef<'_> {
        MapRef(self.maps[index], PhantomData)
    }

    /// All programs, in libbpf's order.
    pub fn progs(&self) -> impl ExactSizeIterator<Item = ProgRef<'_>> {
        self.progs.iter().map(|&prog| ProgRef(prog, PhantomData))
    }

    /// The program with that index in `progs`.
    pub fn prog(&self, index: usize) -> ProgRef<'_> {
        ProgRef(self.progs[index], PhantomData)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the last use of the pointer; MapRef and ProgRef borrow the object, links own a reference.
        unsafe { b::bpf_object__close(self.0.as_ptr()) }
    }
}

/// Collects the elements of one of libbpf's "next" functions.
fn elements<T>(next: impl Fn(*mut T) -> *mut T) -> Vec<NonNull<T>> {
    let first = NonNull::new(next(std::ptr::null_mut()));
    std::iter::successors(first, |element| NonNull::new(next(element.as_ptr()))).collect()
}

impl<'a> MapRef<'a> {
    pub(super) fn ptr(self) -> *mut b::bpf_map {
        self.0.as_ptr()
    }

    /// Its name in libbpf, such as `prefix.rodata` for internal maps.
    pub fn name(self) -> &'a CStr {
        // SAFETY: the name lives as long as the object.
        unsafe { CStr::from_ptr(b::bpf_map__name(self.ptr())) }
    }

    /// Adds this map to an error.
    #[cold]
    #[inline(never)]
    pub fn about(self, error: Error) -> Error {
        error.about_map(&self.name().to_string_lossy())
    }

    /// The descriptor after load; `None` if load does not create the map (`?.struct_ops`), for which libbpf has a
    /// placeholder.
    pub fn fd(self) -> Option<RawFd> {
        // SAFETY: a getter.
        Some(unsafe { b::bpf_map__fd(self.ptr()) }).filter(|&fd| fd >= 0 && self.autocreate())
    }

    /// Sets `autocreate`, before load.
    pub fn set_autocreate(self, on: bool) -> os::Result<()> {
        // SAFETY: a setter that fails on a loaded object.
        check(unsafe { b::bpf_map__set_autocreate(self.ptr(), on) }).map(drop)
    }

    /// BPF_MAP_TYPE_*.
    pub fn kind(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_map__type(self.ptr()) }
    }

    /// Bytes of a key.
    pub fn key_size(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_map__key_size(self.ptr()) }
    }

    /// Bytes of a value (of one CPU).
    pub fn value_size(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_map__value_size(self.ptr()) }
    }

    /// Maximum number of entries; bytes for a ring buffer.
    pub fn max_entries(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_map__max_entries(self.ptr()) }
    }

    /// Sets the sizes of keys and values to zero, before load.
    pub fn clear_sizes(self) -> os::Result<()> {
        // SAFETY: a setter that fails after the map is created.
        check(unsafe { b::bpf_map__set_key_size(self.ptr(), 0) })?;
        // SAFETY: as above.
        check(unsafe { b::bpf_map__set_value_size(self.ptr(), 0) }).map(drop)
    }

    /// Sets the size of a value, before load.
    pub fn set_value_size(self, size: u32) -> os::Result<()> {
        // SAFETY: a setter that fails after the map is created.
        check(unsafe { b::bpf_map__set_value_size(self.ptr(), size) }).map(drop)
    }

    /// Sets the number of entries (bytes for a ring buffer), before load.
    pub fn set_max_entries(self, count: u32) -> os::Result<()> {
        // SAFETY: a setter that fails after the map is created.
        check(unsafe { b::bpf_map__set_max_entries(self.ptr(), count) }).map(drop)
    }

    /// The path at which load pins the map, or finds an existing pinned map, which it uses instead.
    pub fn pin_path(self) -> Option<&'a CStr> {
        // SAFETY: null, or a path that lives as long as the object, because nothing changes it.
        unsafe {
            let path = b::bpf_map__pin_path(self.ptr());
            (!path.is_null()).then(|| CStr::from_ptr(path))
        }
    }

    /// Makes load use an existing map instead of creating this one. libbpf checks nothing and copies the descriptor.
    pub fn reuse(self, fd: RawFd) -> os::Result<()> {
        // SAFETY: the kernel checks the descriptor; the call fails on a loaded object.
        check(unsafe { b::bpf_map__reuse_fd(self.ptr(), fd) }).map(drop)
    }

    /// BPF_F_*, before load.
    pub fn flags(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_map__map_flags(self.ptr()) }
    }

    /// A number whose meaning depends on the type: hash functions of a bloom filter, the address of an arena.
    pub fn extra(self) -> u64 {
        // SAFETY: a getter.
        unsafe { b::bpf_map__map_extra(self.ptr()) }
    }

    /// Whether load creates it.
    pub fn autocreate(self) -> bool {
        // SAFETY: a getter.
        unsafe { b::bpf_map__autocreate(self.ptr()) }
    }

    /// The inner map of a map of maps, until load.
    pub fn inner(self) -> Option<MapRef<'a>> {
        // SAFETY: null for other types of maps; the inner map belongs to the map until load.
        NonNull::new(unsafe { b::bpf_map__inner_map(self.ptr()) }).map(|inner| MapRef(inner, PhantomData))
    }

    /// Lets the kernel choose the address of an arena, before load.
    pub fn clear_address(self) -> os::Result<()> {
        // SAFETY: a setter that fails after the map is created.
        check(unsafe { b::bpf_map__set_map_extra(self.ptr(), 0) }).map(drop)
    }

    /// BTF id of the key; 0 if not declared.
    pub fn key_type(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_map__btf_key_type_id(self.ptr()) }
    }

    /// BTF id of the value; 0 if not declared. For an internal map it is that of the DATASEC.
    pub fn value_type(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_map__btf_value_type_id(self.ptr()) }
    }

    /// Whether libbpf created it from a data section.
    pub fn is_internal(self) -> bool {
        // SAFETY: a getter.
        unsafe { b::bpf_map__is_internal(self.ptr()) }
    }

    /// Whether `read` and `write` access the map itself after load.
    pub fn is_mapped(self) -> bool {
        self.flags() & b::BPF_F_MMAPABLE != 0
    }

    /// Whether its stacks consist of build ids and file offsets instead of addresses.
    pub fn has_build_ids(self) -> bool {
        self.flags() & b::BPF_F_STACK_BUILD_ID != 0
    }

    /// The contents of a data section: the initial values before load, and the map itself after load if `is_mapped`.
    fn memory(self) -> Option<(*mut u8, usize)> {
        let mut size = 0;
        // SAFETY: a getter; null for maps that are not data sections.
        let data = unsafe { b::bpf_map__initial_value(self.ptr(), &mut size) };
        (!data.is_null()).then_some((data.cast(), size as usize))
    }

    /// Maps a data section that `reuse` has given to libbpf, which maps only those that it creates.
    pub fn map_reused(self) -> os::Result<()> {
        let (Some((data, size)), Some(fd)) = (self.memory(), self.fd()) else { return Ok(()) };
        if !self.is_mapped() {
            return Ok(());
        }
        let (access, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: libbpf has mapped the pages there for this section, and unmaps them with the object.
        let start = unsafe { libc::mmap(data.cast(), size, access, how, fd, 0) };
        if start == libc::MAP_FAILED { Err(os::Errno::last()) } else { Ok(()) }
    }

    /// Copies bytes out of a data section. Returns false if they are out of bounds.
    pub fn read(self, offset: usize, out: &mut [u8]) -> bool {
        match self.memory() {
            Some((data, size)) if offset.checked_add(out.len()).is_some_and(|end| end <= size) => {
                // SAFETY: in bounds as just checked; BPF programs may write at the same time, so the bytes are copied, not borrowed.
                unsafe { std::ptr::copy_nonoverlapping(data.add(offset), out.as_mut_ptr(), out.len()) };
                true
            }
            _ => false,
        }
    }

    /// Copies bytes into a data section that is currently writable. Returns false if they are out of bounds.
    pub fn write(self, offset: usize, bytes: &[u8]) -> bool {
        match self.memory() {
            Some((data, size)) if offset.checked_add(bytes.len()).is_some_and(|end| end <= size) => {
                // SAFETY: in bounds as just checked; the caller writes constants before load only, when the pages are writable.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data.add(offset), bytes.len()) };
                true
            }
            _ => false,
        }
    }
}

impl<'a> ProgRef<'a> {
    pub(super) fn ptr(self) -> *mut b::bpf_program {
        self.0.as_ptr()
    }

    /// The C function's name.
    pub fn name(self) -> &'a CStr {
        // SAFETY: the name lives as long as the object.
        unsafe { CStr::from_ptr(b::bpf_program__name(self.ptr())) }
    }

    /// Adds this program and its `place`, which may be empty, to an error.
    #[cold]
    #[inline(never)]
    pub fn about(self, error: Error, place: &str) -> Error {
        error.about_program(&self.name().to_string_lossy(), place)
    }

    /// The ELF section, without a leading `?`.
    pub fn section(self) -> &'a CStr {
        // SAFETY: as for the name.
        unsafe { CStr::from_ptr(b::bpf_program__section_name(self.ptr())) }
    }

    /// The section as a string.
    pub fn section_name(self) -> Cow<'a, str> {
        self.section().to_string_lossy()
    }

    /// BPF_PROG_TYPE_*.
    pub fn kind(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_program__type(self.ptr()) }
    }

    /// Whether `load` loads it.
    pub fn autoload(self) -> bool {
        // SAFETY: a getter.
        unsafe { b::bpf_program__autoload(self.ptr()) }
    }

    /// The attach type of its section (`enum bpf_attach_type`); 0 if the program type has no attach types.
    pub fn expected_attach_type(self) -> u32 {
        // SAFETY: a getter.
        unsafe { b::bpf_program__expected_attach_type(self.ptr()) }
    }

    /// Its instructions as compiled. After the object was loaded, or after the verifier has rejected a program, they
    /// are those that the kernel received, with the functions that the program calls.
    pub fn instructions(self) -> &'a [[u8; INSTRUCTION]] {
        // SAFETY: libbpf returns its own array and its length. The array is valid until the object is loaded, which requires that
        // no reference to the object exists.
        unsafe {
            let insns = b::bpf_program__insns(self.ptr());
            if insns.is_null() {
                return &[];
            }
            std::slice::from_raw_parts(insns.cast(), b::bpf_program__insn_cnt(self.ptr()) as usize)
        }
    }

    /// Whether attaching the object attaches it.
    pub fn autoattach(self) -> bool {
        // SAFETY: a getter.
        unsafe { b::bpf_program__autoattach(self.ptr()) }
    }

    /// Sets `autoload`, before load.
    pub fn set_autoload(self, on: bool) -> os::Result<()> {
        // SAFETY: a setter that fails on a loaded object.
        check(unsafe { b::bpf_program__set_autoload(self.ptr(), on) }).map(drop)
    }

    /// The descriptor after load.
    pub fn fd(self) -> Option<RawFd> {
        // SAFETY: a getter.
        Some(unsafe { b::bpf_program__fd(self.ptr()) }).filter(|&fd| fd >= 0)
    }

    /// Returns the descriptor; fails with EBADF before load.
    pub(super) fn raw_fd(self) -> os::Result<RawFd> {
        self.fd().ok_or(os::Errno(libc::EBADF))
    }

    /// Whether it calls the BPF helper with this number.
    pub fn calls_helper(self, helper: i32) -> bool {
        let calls = |insn: &[u8; INSTRUCTION]| {
            insn[0] == opcode::CALL && insn[1] >> 4 == 0 && insn[4..] == helper.to_ne_bytes()
        };
        self.instructions().iter().any(calls)
    }

    /// Whether a loaded program refers to a map with one of these descriptors, or to the value of such a map.
    pub fn uses_map(self, fds: &[RawFd]) -> bool {
        let is_map = |source: u8| [b::BPF_PSEUDO_MAP_FD, b::BPF_PSEUDO_MAP_VALUE].contains(&source.into());
        let is_one = |fd: &[u8]| fds.iter().any(|known| known.to_ne_bytes() == fd);
        let uses = |insn: &[u8; INSTRUCTION]| {
            insn[0] == opcode::LOAD_64 && is_map(insn[1] >> 4) && is_one(&insn[4..])
        };
        self.instructions().iter().any(uses)
    }
}

/// Returns a name that occurs more than once in `names`. Sorts `names`.
pub fn repeated<'a>(names: &mut [&'a CStr]) -> Option<&'a CStr> {
    unsafe extern "C" fn order(one: *const c_void, other: *const c_void) -> c_int {
        // SAFETY: qsort passes pointers to elements.
        let (one, other) = unsafe { (*one.cast::<&CStr>(), *other.cast::<&CStr>()) };
        // SAFETY: both are C strings.
        unsafe { libc::strcmp(one.as_ptr(), other.as_ptr()) }
    }
    let (data, size) = (names.as_mut_ptr().cast(), size_of::<&CStr>());
    // SAFETY: `data` has that many elements of that size, and moving an element moves its bytes.
    unsafe { libc::qsort(data, names.len(), size, Some(order)) };
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// The kernel's facts about a loaded program.
#[derive(Clone, Copy, Default)]
pub struct ProgFacts {
    /// Kernel-wide id.
    pub id: u32,
    /// Its name, truncated to 15 bytes.
    pub name: [c_char; 16],
    /// A digest of its instructions.
    pub tag: [u8; 8],
    /// Number of runs, if the kernel counts them (kernel.bpf_stats_enabled).
    pub run_count: u64,
    /// Total run time in nanoseconds.
    pub run_ns: u64,
}

/// Returns the kernel's facts about a program.
pub fn prog_facts(fd: &impl AsRawFd) -> os::Result<ProgFacts> {
    let info = program_info(fd.as_raw_fd())?;
    let b::bpf_prog_info { id, name, tag, run_cnt: run_count, run_time_ns: run_ns, .. } = info;
    Ok(ProgFacts { id, name, tag, run_count, run_ns })
}

/// Makes the kernel count the runs of all programs until the descriptor is closed (Linux 5.8).
pub fn count_runs() -> os::Result<OwnedFd> {
    // SAFETY: a number only; the descriptor is new, and nothing else knows it.
    unsafe { check(b::bpf_enable_stats(b::BPF_STATS_RUN_TIME)).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Returns the kernel's facts about a program as the kernel's struct.
pub(super) fn program_info(fd: RawFd) -> os::Result<b::bpf_prog_info> {
    let mut info = b::bpf_prog_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` has `size` bytes; the kernel fills what it knows.
    check(unsafe { b::bpf_prog_get_info_by_fd(fd, &mut info, &mut size) })?;
    Ok(info)
}

/// Returns the number of possible CPUs. A per-CPU value has a slot for each.
pub fn possible_cpus() -> os::Result<usize> {
    // SAFETY: no arguments.
    check(unsafe { b::libbpf_num_possible_cpus() }).map(|n| n as usize)
}

/// Converts a key or value to a pointer for C; an empty one is null.
pub(super) fn pointer_or_null(bytes: &[u8]) -> *const c_void {
    if bytes.is_empty() { std::ptr::null() } else { bytes.as_ptr().cast() }
}
