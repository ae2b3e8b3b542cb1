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

/// Handles the calls of a guest.
pub trait Host {
    /// Calls the import with the index `import`. `args` holds one number for each parameter, an i32 in its lower half. `None`
    /// ends the guest: with a trap for an invalid pointer, unless the host has stored another reason.
    fn call(&self, import: usize, guest: Guest<'_>, args: &[u64; ARGS]) -> Option<u64>;
}

/// Maximum number of parameters of an import. The result is stored in the first element.
pub const ARGS: usize = 16;

/// The reason why a call into a guest did not return.
#[derive(Debug, Default)]
pub struct Trap {
    /// WAMR's message, such as `unreachable`; empty if the guest was stopped or the host ended it.
    pub message: String,
    /// The call stack: one function per line, the innermost first.
    pub trace: String,
}

/// The data that an instance carries for calls out of the guest.
pub(super) struct Slot<'h> {
    host: &'h dyn Host,
    pub stopper: Arc<Stopper>,
    /// A panic of the host, which must not unwind through the frames of WAMR. It resumes in the Rust frames above them.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
    /// Whether the memory could not grow.
    pub is_starved: Cell<bool>,
}

impl<'h> Slot<'h> {
    pub fn new(host: &'h dyn Host, stopper: Arc<Stopper>) -> Slot<'h> {
        Slot { host, stopper, panic: RefCell::new(None), is_starved: Cell::new(false) }
    }
}

/// A borrowed instance. Its memory may move with every call into it, so bytes are copied, never borrowed.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    pub(super) ptr: w::wasm_module_inst_t,
    pub(super) env: w::wasm_exec_env_t,
    pub(super) _instance: PhantomData<&'a ()>,
}

/// A function of the guest whose type has been checked.
#[derive(Clone, Copy)]
pub struct Function<'a> {
    ptr: NonNull<c_void>,
    /// Letters of its parameters, as in [`signature`], padded with 0.
    params: [u8; PARAMS],
    /// Letter of its result; 0 if it returns nothing.
    result: u8,
    _instance: PhantomData<&'a ()>,
}

/// Maximum number of parameters of a function that the host calls.
const PARAMS: usize = 3;

impl<'a> Guest<'a> {
    /// Returns the exported function with that name if the host can call it ([`is_callable`]) with at most `params` arguments.
    pub fn function(self, name: &CStr, params: usize) -> Option<Function<'a>> {
        // SAFETY: a lookup by name.
        let found = unsafe { w::wasm_runtime_lookup_function(self.ptr, name.as_ptr()) };
        self.checked(NonNull::new(found)?, params).ok()
    }

    /// Returns the element `index` of the exported table if the host can call it with at most `params` arguments. Otherwise the
    /// error is its type, or empty if there is no such function.
    pub fn table_function(self, index: u32, params: usize) -> Result<Function<'a>, String> {
        self.element(index).map_or_else(|| Err(String::new()), |found| self.checked(found, params))
    }

    fn element(self, index: u32) -> Option<NonNull<c_void>> {
        const TABLE: &CStr = c"__indirect_function_table";
        let mut table = w::wasm_table_inst_t::default();
        // SAFETY: the table lives as long as the instance, and the index is in range. WAMR treats an empty element, all bits
        // set, as a function, so it is checked first: elements are function indices, as wide as a pointer.
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

    /// Calls a function of the guest with as many of `args` as it has parameters. Returns 0 if its result is not an
    /// integer.
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
        // SAFETY: the arguments are in `len` cells, as the type of the function requires; its result fits into two.
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

    /// Ends the guest with the trap `message`, unless it is ending for another reason. For use in a [`Host`].
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

    /// Returns address and length of the memory. They are valid until the next call into the guest.
    fn memory(self) -> (*mut u8, usize) {
        // SAFETY: getters. A guest without a memory is handled as one with an empty memory.
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

    /// Returns the address of `len` bytes at `at`; `None` if they are not all within the memory.
    fn address(self, at: u32, len: usize) -> Option<*mut u8> {
        let (base, size) = self.memory();
        let end = (at as usize).checked_add(len)?;
        // SAFETY: in bounds, as checked. A null base is only advanced by 0.
        (end <= size).then(|| unsafe { base.add(at as usize) })
    }

    /// Whether `len` bytes at `at` are all within the memory.
    pub fn has(self, at: u32, len: u32) -> bool {
        self.address(at, len as usize).is_some()
    }

    /// Copies `len` bytes out of the memory.
    pub fn read(self, at: u32, len: u32) -> Option<Vec<u8>> {
        let mut bytes = vec![0; if self.has(at, len) { len as usize } else { 0 }];
        self.read_into(at, &mut bytes).filter(|()| bytes.len() == len as usize).map(|()| bytes)
    }

    /// Copies bytes out of the memory.
    pub fn read_into(self, at: u32, into: &mut [u8]) -> Option<()> {
        let address = self.address(at, into.len())?;
        if !into.is_empty() {
            // SAFETY: the address is within the memory, which does not overlap with ours.
            unsafe { ptr::copy_nonoverlapping(address, into.as_mut_ptr(), into.len()) };
        }
        Some(())
    }

    /// Copies bytes into the memory.
    pub fn write(self, at: u32, bytes: &[u8]) -> Option<()> {
        let address = self.address(at, bytes.len())?;
        if !bytes.is_empty() {
            // SAFETY: as in `read_into`.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), address, bytes.len()) };
        }
        Some(())
    }

    /// Returns the bytes from `at` up to a NUL; `None` if there is no NUL within `limit` bytes.
    pub fn read_string(self, at: u32, limit: usize) -> Option<Vec<u8>> {
        let (base, size) = self.memory();
        let max_len = size.checked_sub(at as usize).filter(|_| size > 0)?.min(limit);
        // SAFETY: in bounds. Only this thread changes the memory, and it runs no code of the guest here.
        let bytes = unsafe { std::slice::from_raw_parts(base.add(at as usize), max_len) };
        bytes.iter().position(|&byte| byte == 0).map(|end| bytes[..end].to_vec())
    }

    /// Returns address and size of the memory that is reserved for `malloc`. Call it once, before any code of the guest runs,
    /// and only if the guest has no `malloc`. `len` is the size that was requested for the heap.
    pub fn heap(self, len: u32) -> Option<(u32, u32)> {
        /// Maximum number of bytes that WAMR itself needs.
        const MARGIN: u32 = 2048;
        let len = len.checked_sub(MARGIN).filter(|_| self.has(0, 1))?;
        // SAFETY: WAMR's heap is in its initial state, and is not used after this.
        let at = unsafe { w::wasm_runtime_module_malloc(self.ptr, len.into(), ptr::null_mut()) };
        Some((u32::try_from(at).ok().filter(|&at| at != 0 && self.has(at, len))?, len))
    }
}

/// Receives every call of a guest to an import.
pub(super) unsafe extern "C" fn enter(env: w::wasm_exec_env_t, cells: *mut u64) {
    // SAFETY: WAMR passes the current environment and at least sixteen cells, the first of which is the result.
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

/// WAMR calls this when a memory cannot grow.
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
