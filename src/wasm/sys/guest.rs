//! A running instance, borrowed: calls into it, calls out of it, and its memory.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use wamr_sys as w;

use super::signature::{is_callable, signature, split};
use super::stopper::Stopper;

/// Takes the calls of a guest.
pub trait Host {
    /// A guest called import number `import`. `args` holds one number for each parameter, an i32 in its lower half. `None`
    /// ends the guest: because a pointer is wrong, unless the host knows another reason.
    fn call(&self, import: usize, guest: Guest<'_>, args: &[u64; ARGS]) -> Option<u64>;
}

/// Most parameters of an import, and at least one for the result.
pub const ARGS: usize = 16;

/// Why a call into a guest did not return.
#[derive(Debug, Default)]
pub struct Trap {
    /// WAMR's words, such as `unreachable`; empty if the guest was stopped or the host ended it.
    pub message: String,
    /// The guest's functions, the innermost first, a line each.
    pub trace: String,
}

/// The data that an instance carries for calls out of the guest.
pub(super) struct Slot<'h> {
    host: &'h dyn Host,
    pub stopper: Arc<Stopper>,
    /// A panic of the host, on its way past the frames of WAMR to the Rust frames above them.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
    /// Whether the memory could not grow.
    pub is_starved: Cell<bool>,
}

impl<'h> Slot<'h> {
    pub fn new(host: &'h dyn Host, stopper: Arc<Stopper>) -> Slot<'h> {
        Slot { host, stopper, panic: RefCell::new(None), is_starved: Cell::new(false) }
    }
}

/// An instance, borrowed. Its memory may move with every call into it: bytes are copied, never borrowed.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    pub(super) ptr: w::wasm_module_inst_t,
    pub(super) env: w::wasm_exec_env_t,
    pub(super) _instance: PhantomData<&'a ()>,
}

/// A function of the guest, of a type that has been checked.
#[derive(Clone, Copy)]
pub struct Function<'a> {
    ptr: NonNull<c_void>,
    /// Letters of its parameters, as in [`signature`]; 0 behind the last one.
    params: [u8; PARAMS],
    /// That of its result; 0: there is none.
    result: u8,
    _instance: PhantomData<&'a ()>,
}

/// Most parameters of a function that the host calls.
const PARAMS: usize = 3;

impl<'a> Guest<'a> {
    /// The exported function of that name, if it [`is_callable`] at most so many numbers.
    pub fn function(self, name: &CStr, params: usize) -> Option<Function<'a>> {
        // SAFETY: a lookup by name.
        let found = unsafe { w::wasm_runtime_lookup_function(self.ptr, name.as_ptr()) };
        self.checked(NonNull::new(found)?, params).ok()
    }

    /// Function number `index` of the exported table, if it [`is_callable`] at most so many numbers; else its type, empty if
    /// there is no such function.
    pub fn table_function(self, index: u32, params: usize) -> Result<Function<'a>, String> {
        self.element(index).map_or_else(|| Err(String::new()), |found| self.checked(found, params))
    }

    fn element(self, index: u32) -> Option<NonNull<c_void>> {
        const TABLE: &CStr = c"__indirect_function_table";
        let mut table = w::wasm_table_inst_t::default();
        // SAFETY: the table lives as long as the instance. WAMR must be asked only about elements that are there, and
        // takes an empty one, all bits set, for a function: elements are numbers of functions, as wide as a pointer.
        let found = unsafe {
            let is_there = w::wasm_runtime_get_export_table_inst(self.ptr, TABLE.as_ptr(), &mut table);
            if !is_there || u32::from(table.elem_kind) != w::WASM_FUNCREF || index >= table.cur_size {
                return None;
            }
            let element = table.elems.cast::<usize>().add(index as usize).read();
            if element as u32 == u32::MAX {
                return None;
            }
            w::wasm_table_get_func_inst(self.ptr, &table, index)
        };
        NonNull::new(found)
    }

    fn checked(self, ptr: NonNull<c_void>, params: usize) -> Result<Function<'a>, String> {
        let found = ptr.as_ptr();
        // SAFETY: a function of this instance.
        let is = unsafe {
            let mut kinds = vec![0; w::wasm_func_get_param_count(found, self.ptr) as usize];
            w::wasm_func_get_param_types(found, self.ptr, kinds.as_mut_ptr());
            let mut results = vec![0; w::wasm_func_get_result_count(found, self.ptr) as usize];
            w::wasm_func_get_result_types(found, self.ptr, results.as_mut_ptr());
            signature(kinds.into_iter(), results.into_iter())
        };
        if !is_callable(&is, 0..=params.min(PARAMS)) {
            return Err(is);
        }
        let (taken, result) = split(&is);
        let mut params = [0; PARAMS];
        params[..taken.len()].copy_from_slice(taken.as_bytes());
        let result = result.bytes().next().unwrap_or_default();
        Ok(Function { ptr, params, result, _instance: PhantomData })
    }

    /// Calls a function of the guest with as many of `args` as it takes; the result is 0 if it has none that is a whole
    /// number.
    pub fn call(self, function: Function<'_>, args: &[u32]) -> Result<u32, Trap> {
        let mut cells = [0; 2 * PARAMS];
        let (mut len, mut args) = (0, args.iter());
        for letter in function.params.into_iter().take_while(|letter| *letter != 0) {
            let Some(arg) = args.next() else { return Err(Trap::default()) };
            cells[len] = *arg;
            len += if letter == b'I' { 2 } else { 1 };
        }
        if self.slot().stopper.cause() != 0 {
            return Err(Trap::default());
        }
        // SAFETY: the function takes what is in so many cells and returns at most one number, which fits into two.
        let returned = unsafe {
            let ptr = function.ptr.as_ptr();
            w::wasm_runtime_call_wasm(self.env, ptr, len as u32, cells.as_mut_ptr())
        };
        if let Some(panic) = self.slot().panic.take() {
            resume_unwind(panic);
        }
        if !returned || self.slot().stopper.cause() != 0 {
            return Err(self.trap());
        }
        let wide = i64::from(cells[0]) | i64::from(cells[1] as i32) << 32;
        Ok(match function.result {
            b'i' => cells[0],
            b'I' => wide.clamp(i32::MIN.into(), i32::MAX.into()) as u32,
            _ => 0,
        })
    }

    fn trap(self) -> Trap {
        // SAFETY: the message lives in the instance; the trace goes into a buffer of the size that WAMR asks for.
        unsafe {
            let message = w::wasm_runtime_get_exception(self.ptr);
            if message.is_null() {
                return Trap::default();
            }
            let message = CStr::from_ptr(message).to_string_lossy().into_owned();
            let len = w::wasm_runtime_get_call_stack_buf_size(self.env);
            let mut trace: Vec<u8> = vec![0; len as usize];
            if len > 0 {
                w::wasm_runtime_dump_call_stack_to_buf(self.env, trace.as_mut_ptr().cast(), len);
            }
            trace.truncate(trace.iter().position(|&byte| byte == 0).unwrap_or(trace.len()));
            let trace = String::from_utf8_lossy(&trace).trim().to_owned();
            Trap { message: message.strip_prefix("Exception: ").unwrap_or(&message).to_owned(), trace }
        }
    }

    /// Ends the guest, which is in a call out, with `message`, unless it is ending for another reason.
    pub fn raise<T>(self, message: &CStr) -> Option<T> {
        // SAFETY: WAMR copies the message.
        unsafe {
            if w::wasm_runtime_get_exception(self.ptr).is_null() {
                w::wasm_runtime_set_exception(self.ptr, message.as_ptr());
            }
        }
        None
    }

    fn slot(&self) -> &Slot<'a> {
        // SAFETY: set by `new` before any code of the guest runs, and as long-lived as the instance.
        unsafe { &*w::wasm_runtime_get_custom_data(self.ptr).cast::<Slot<'a>>() }
    }

    /// Start and length of the memory, until the next call into the guest.
    fn memory(self) -> (*mut u8, usize) {
        // SAFETY: getters; a guest without a memory has an empty one.
        unsafe {
            let memory = w::wasm_runtime_get_default_memory(self.ptr);
            if memory.is_null() {
                return (ptr::null_mut(), 0);
            }
            let pages = w::wasm_memory_get_cur_page_count(memory);
            let len = pages * w::wasm_memory_get_bytes_per_page(memory);
            (w::wasm_memory_get_base_address(memory).cast(), len as usize)
        }
    }

    /// Where `len` bytes at `at` are; `None` if they are not all in the memory.
    fn place(self, at: u32, len: usize) -> Option<*mut u8> {
        let (base, size) = self.memory();
        let end = (at as usize).checked_add(len)?;
        // SAFETY: in bounds as just checked; null is only moved by nothing.
        (end <= size).then(|| unsafe { base.add(at as usize) })
    }

    /// Whether `len` bytes at `at` are all in the memory.
    pub fn has(self, at: u32, len: u32) -> bool {
        self.place(at, len as usize).is_some()
    }

    /// Copies `len` bytes out of the memory.
    pub fn read(self, at: u32, len: u32) -> Option<Vec<u8>> {
        let mut bytes = vec![0; if self.has(at, len) { len as usize } else { 0 }];
        self.read_into(at, &mut bytes).filter(|()| bytes.len() == len as usize).map(|()| bytes)
    }

    /// Copies bytes out of the memory.
    pub fn read_into(self, at: u32, into: &mut [u8]) -> Option<()> {
        let place = self.place(at, into.len())?;
        if !into.is_empty() {
            // SAFETY: the place is inside the memory, which is not ours.
            unsafe { ptr::copy_nonoverlapping(place, into.as_mut_ptr(), into.len()) };
        }
        Some(())
    }

    /// Copies bytes into the memory.
    pub fn write(self, at: u32, bytes: &[u8]) -> Option<()> {
        let place = self.place(at, bytes.len())?;
        if !bytes.is_empty() {
            // SAFETY: as in `read_into`.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        }
        Some(())
    }

    /// The bytes from `at` up to a NUL, of which there must be one within `limit` bytes.
    pub fn read_string(self, at: u32, limit: usize) -> Option<Vec<u8>> {
        let (base, size) = self.memory();
        let room = size.checked_sub(at as usize).filter(|_| size > 0)?.min(limit);
        // SAFETY: in bounds; only this thread, which runs no code of the guest meanwhile, changes the memory.
        let bytes = unsafe { std::slice::from_raw_parts(base.add(at as usize), room) };
        bytes.iter().position(|&byte| byte == 0).map(|end| bytes[..end].to_vec())
    }

    /// The part of the memory that is set aside for `malloc`: where, and how long; to be taken once, before any code of the
    /// guest runs, and not where the guest has a `malloc`. `len`: what was asked for.
    pub fn heap(self, len: u32) -> Option<(u32, u32)> {
        /// What WAMR needs for itself at most.
        const MARGIN: u32 = 2048;
        let len = len.checked_sub(MARGIN).filter(|_| self.has(0, 1))?;
        // SAFETY: WAMR's heap is as WAMR made it, and stays unused from now on.
        let at = unsafe { w::wasm_runtime_module_malloc(self.ptr, len.into(), ptr::null_mut()) };
        Some((u32::try_from(at).ok().filter(|&at| at != 0 && self.has(at, len))?, len))
    }
}

/// Takes every call out of a guest.
pub(super) unsafe extern "C" fn enter(env: w::wasm_exec_env_t, cells: *mut u64) {
    // SAFETY: WAMR passes the environment at work; it has room for sixteen numbers at least, the result among them.
    let (guest, import, args) = unsafe {
        let guest = Guest { ptr: w::wasm_runtime_get_module_inst(env), env, _instance: PhantomData };
        let import = w::wasm_runtime_get_function_attachment(env).addr();
        (guest, import, &*cells.cast::<[u64; ARGS]>())
    };
    let slot = guest.slot();
    match catch_unwind(AssertUnwindSafe(|| slot.host.call(import, guest, args))) {
        // SAFETY: as above; `args` is not used any more.
        Ok(Some(result)) => unsafe { cells.write(result) },
        Ok(None) => guest.raise(c"out of bounds memory access").unwrap_or_default(),
        Err(panic) => {
            slot.panic.replace(Some(panic));
            guest.raise(c"a panic of the host").unwrap_or_default()
        }
    }
}

/// WAMR tells that a memory could not grow.
pub(super) unsafe extern "C" fn growth_refused(
    _pages: u32,
    _size: u64,
    _index: u32,
    _reason: w::enlarge_memory_error_reason_t,
    instance: w::wasm_module_inst_t,
    _env: w::wasm_exec_env_t,
    _data: *mut c_void,
) {
    // SAFETY: the instance whose code runs; its slot is set before any code runs.
    unsafe {
        let slot = w::wasm_runtime_get_custom_data(instance).cast::<Slot<'_>>();
        if let Some(slot) = slot.as_ref() {
            slot.is_starved.set(true);
        }
    }
}
