//! Fault injection for the tests: what a bug of the library does to its host. Not in the header, not in
//! a release.

use std::ffi::c_int;

use super::guard::guard;
use super::types::eunomia_vm;

/// Panics inside a call on the vm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_fault_panic(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |_| -> crate::error::Result<()> { panic!("a fault was asked for") }) }
}
