//! The allocator of WAMR: that of the C library, with a reserve for the one request of WAMR that must not fail.
//!
//! To end an execution environment, WAMR lists the threads of its cluster in a vector of pointers. If that vector cannot be
//! allocated, `safe_traverse_exec_env_list` frees a pointer that it has never set (WAMR 2.4). Each of our clusters has one thread, so
//! the vector has [`SLOT`] bytes.

use std::cell::UnsafeCell;
use std::ffi::{c_uint, c_void};
use std::ptr;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire},
};

use wamr_sys as w;

/// Size of the vector in bytes.
const SLOT: usize = size_of::<*const c_void>();

/// Memory for requests of [`SLOT`] bytes that the C library refuses.
struct Reserve {
    slots: [UnsafeCell<[u8; SLOT]>; 32],
    /// A bit per slot: it is in use.
    used: AtomicU32,
}

// SAFETY: a slot belongs to the thread that has set its bit.
unsafe impl Sync for Reserve {}

static RESERVE: Reserve =
    Reserve { slots: [const { UnsafeCell::new([0; SLOT]) }; 32], used: AtomicU32::new(0) };

impl Reserve {
    /// Takes a slot, or returns null.
    fn take(&self) -> *mut c_void {
        let taken =
            self.used.fetch_update(AcqRel, Acquire, |used| Some(used | (!used & used.wrapping_add(1))));
        let index = (!taken.unwrap_or(u32::MAX)).trailing_zeros() as usize;
        self.slots.get(index).map_or(ptr::null_mut(), |slot| slot.get().cast())
    }

    /// Returns the index of a slot, or `None` if `memory` is not from here.
    fn index(&self, memory: *mut c_void) -> Option<usize> {
        let index = memory.addr().wrapping_sub(self.slots.as_ptr().addr()) / SLOT;
        (index < self.slots.len()).then_some(index)
    }

    fn give_back(&self, index: usize) {
        self.used.fetch_and(!(1 << index), AcqRel);
    }
}

/// Makes WAMR use the functions below.
pub(super) fn set(args: &mut w::RuntimeInitArgs) {
    args.mem_alloc_type = w::Alloc_With_Allocator;
    args.mem_alloc_option.allocator = w::MemAllocOption__bindgen_ty_2 {
        malloc_func: allocate as *mut c_void,
        realloc_func: reallocate as *mut c_void,
        free_func: free as *mut c_void,
        user_data: ptr::null_mut(),
    };
}

unsafe extern "C" fn allocate(size: c_uint) -> *mut c_void {
    // SAFETY: any size is valid.
    let memory = unsafe { libc::malloc(size as usize) };
    if memory.is_null() && size as usize == SLOT { RESERVE.take() } else { memory }
}

unsafe extern "C" fn reallocate(old: *mut c_void, size: c_uint) -> *mut c_void {
    let Some(index) = RESERVE.index(old) else {
        // SAFETY: `old` is null or from `libc::malloc`, see `allocate`.
        return unsafe { libc::realloc(old, size as usize) };
    };
    // SAFETY: as in `allocate`; a slot and the new block have at least the bytes that are copied, and do not overlap.
    unsafe {
        let memory = libc::malloc(size as usize);
        if !memory.is_null() {
            memory.copy_from_nonoverlapping(old, SLOT.min(size as usize));
            RESERVE.give_back(index);
        }
        memory
    }
}

unsafe extern "C" fn free(memory: *mut c_void) {
    match RESERVE.index(memory) {
        Some(index) => RESERVE.give_back(index),
        // SAFETY: null or from `libc::malloc`, and WAMR does not use it any more.
        None => unsafe { libc::free(memory) },
    }
}
