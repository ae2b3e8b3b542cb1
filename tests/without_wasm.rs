//! A library that is built without the feature `wasm` has all functions and refuses WASM modules. Empty in other builds:
//! `cargo test --no-default-features --features capi --test without_wasm`.
#![cfg(not(feature = "wasm"))]

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{null, null_mut};

use eunomia::capi::{
    eunomia_destroy, eunomia_errmsg, eunomia_event, eunomia_format, eunomia_kind, eunomia_kinds, eunomia_new,
    eunomia_open, eunomia_version_string, eunomia_wasm_run,
};
use eunomia::vm::{Format, Kind, Options, Vm};
use eunomia::{Flow, Status};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const MESSAGE: &str = "no WASM support (feature wasm)";

#[test]
fn modules_are_refused_as_unsupported() {
    let vm = Vm::new(Options::new()).unwrap();
    let error = vm.open(MODULE, Kind::Wasm).unwrap_err();
    assert_eq!(error.status(), Status::Unsupported);
    assert!(error.message().contains(MESSAGE), "{error}");
    let error = vm.wasm_run(&["guest"], Format::Json, |_: &eunomia::Event| Flow::Continue).unwrap_err();
    assert_eq!(error.status(), Status::Unsupported);
    // The vm is as it was: a package can be opened.
    let error = vm.open(b"{}", Kind::Json).unwrap_err();
    assert_eq!(error.status(), Status::Package, "{error}");
}

unsafe extern "C" fn ignore(_: *mut c_void, _: *const eunomia_event) -> c_int {
    0
}

#[test]
fn the_c_interface_refuses_modules_and_knows_its_kinds() {
    // SAFETY: the pointers are valid for each call, and the vm is destroyed once.
    unsafe {
        let mut vm = null_mut();
        assert_eq!(eunomia_new(&mut vm, null()), 0);
        let unsupported = Status::Unsupported as i32;
        let any = eunomia_kind::EUNOMIA_KIND_ANY as u32;
        assert_eq!(eunomia_open(vm, MODULE.as_ptr().cast(), MODULE.len(), any), unsupported);
        assert!(CStr::from_ptr(eunomia_errmsg(vm)).to_str().unwrap().contains(MESSAGE));
        let json = eunomia_format::EUNOMIA_FORMAT_JSON as u32;
        let (argv, exit_code) = ([c"guest".as_ptr()], null_mut());
        assert_eq!(
            eunomia_wasm_run(vm, 1, argv.as_ptr(), exit_code, json, Some(ignore), null_mut()),
            unsupported
        );
        assert!(CStr::from_ptr(eunomia_errmsg(vm)).to_str().unwrap().contains(MESSAGE));
        eunomia_destroy(vm);
        assert!(CStr::from_ptr(eunomia_version_string()).to_str().unwrap().contains("WAMR none"));
    }
    assert_eq!(eunomia_kinds(), eunomia_kind::EUNOMIA_KIND_JSON as u32);
}
