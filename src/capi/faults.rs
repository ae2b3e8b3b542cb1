//! Fault injection for the tests: a panic inside a call, and which allocations are Rust's. Neither in the header nor in
//! a release.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_int;

use super::guard::guard;
use super::handle::eunomia_vm;

/// Panics inside a call on the vm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_fault_panic(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |_| -> crate::error::Result<()> { panic!("injected fault") }) }
}

/// Returns whether Rust code is allocating, for a malloc of the host.
#[unsafe(no_mangle)]
pub extern "C" fn eunomia_fault_rust_allocates() -> c_int {
    ALLOCATES.get().into()
}

thread_local! {
    static ALLOCATES: Cell<bool> = const { Cell::new(false) };
}

#[global_allocator]
static ALLOCATOR: Marked = Marked;

/// The system's allocator. It marks that Rust code is using it.
struct Marked;

fn marked(allocate: impl FnOnce() -> *mut u8) -> *mut u8 {
    ALLOCATES.set(true);
    let memory = allocate();
    ALLOCATES.set(false);
    memory
}

// SAFETY: forwards to the system's allocator.
unsafe impl GlobalAlloc for Marked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        marked(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        marked(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        marked(|| unsafe { System.realloc(memory, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}
