//! C functions in any order, with existing and missing names, nulls, wrong sizes and wrong flags.
#![no_main]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::LazyLock;

use eunomia::capi::*;
use fuzz::{compiled, descriptors};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

static PACKAGE: LazyLock<Vec<u8>> = LazyLock::new(|| compiled("calls/package.json"));
const INTERNAL: c_int = eunomia_status::EUNOMIA_ERR_INTERNAL as c_int;

const NAMES: [&str; 12] = [
    "events", "counts", "per_cpu", "last", "on_call", "target", "burst", "bonus", "calls", ".rodata",
    "nobody", "",
];
const TEXTS: [&str; 14] = [
    "0",
    "1",
    "-1",
    "4294967296",
    "1e400",
    "null",
    "[]",
    "[1,2]",
    "{\"pid\":1,\"seq\":2}",
    "\"text\"",
    "{\"0\":",
    "",
    "{\"interface\":1}",
    "{\"attach\":\"raw_tp/sys_exit\",\"func\":\"\\u0000\"}",
];

fuzz_target!(|data: &[u8]| {
    let before = descriptors();
    let mut vm = null_mut();
    let mut input = Unstructured::new(data);
    // SAFETY: the header allows these calls or states that they are refused.
    unsafe {
        if eunomia_new(&mut vm, null()) == 0 {
            let target = std::process::id().to_string();
            // Most inputs start with valid calls; then any call.
            if input.ratio(7, 8).unwrap_or(true) {
                eunomia_open(
                    vm,
                    PACKAGE.as_ptr().cast(),
                    PACKAGE.len(),
                    eunomia_kind::EUNOMIA_KIND_JSON as u32,
                );
                let target = CString::new(target).expect("digits");
                assert_eq!(eunomia_var_set_json(vm, c"target".as_ptr(), target.as_ptr()), 0);
            }
            while !input.is_empty() && call(vm, &mut input).is_ok() {}
            eunomia_destroy(vm);
        }
    }
    assert_eq!(descriptors(), before, "descriptors are left");
});

unsafe extern "C" fn on_event(_: *mut c_void, event: *const eunomia_event) -> c_int {
    // SAFETY: an event and its pointers are valid during the call.
    unsafe {
        let (data, len) = ((*event).data.cast::<u8>(), (*event).len);
        let sum = if len == 0 {
            0
        } else {
            std::slice::from_raw_parts(data, len).iter().map(|&byte| c_int::from(byte)).sum()
        };
        // Some events end the poll.
        c_int::from(sum % 7 == 0)
    }
}

/// Makes one call, and reads what a host would read.
unsafe fn call(vm: *mut eunomia_vm, input: &mut Unstructured<'_>) -> Result<()> {
    let text = |list: &[&str], input: &mut Unstructured<'_>| -> Result<CString> {
        Ok(CString::new(*input.choose(list)?).unwrap_or_default())
    };
    let (name, value) = (text(&NAMES, input)?, text(&TEXTS, input)?);
    // Sometimes null.
    let pointer = |text: &CString, is_null: bool| if is_null { null() } else { text.as_ptr() };
    let (name, value) = (pointer(&name, input.ratio(1, 32)?), pointer(&value, input.ratio(1, 32)?));
    let format = *input.choose(&[0, 1, 2, 2, 1, 7])?;
    // A struct starts with its size.
    let (mut bytes, mut more) = ([0xa5u64; 64], [0u64; 64]);
    more[0] = *input.choose(&[8, 16, 40, 80, 112, 256, 0, 1 << 40])?;
    let (buffer, other) = (bytes.as_mut_ptr().cast::<c_void>(), more.as_mut_ptr().cast::<c_void>());
    let len = *input.choose(&[0usize, 1, 4, 8, 16, 32, 40, 256])?;
    let function: eunomia_event_fn = if input.ratio(1, 32)? { None } else { Some(on_event) };
    let (mut out, mut size): (*const c_char, usize) = (null(), len);
    let (flags, index) = (*input.choose(&[0u64, 1, 2, 3, 1 << 31, u64::MAX])?, input.int_in_range(-1..=5)?);
    let what = input.int_in_range(0..=37)?;
    // SAFETY: as above; the buffers are larger than stated.
    let status = unsafe {
        match what {
            0 => eunomia_open(
                vm,
                PACKAGE.as_ptr().cast(),
                *input.choose(&[PACKAGE.len(), 0, 100])?,
                flags as u32,
            ),
            1 => eunomia_open_object(vm, PACKAGE.as_ptr().cast(), len, value),
            2 => eunomia_load(vm),
            3 | 4 => eunomia_attach(vm),
            5 => eunomia_detach(vm),
            6 => eunomia_var_set_json(vm, name, value),
            7 => eunomia_var_set(vm, name, buffer, len),
            8 => eunomia_var_get_json(vm, name, &mut out),
            9 => eunomia_var_get(vm, name, buffer, &mut size),
            10 => eunomia_args_set(vm, index, [name, value, null(), name, value, null()].as_ptr()),
            11 => eunomia_args_help(vm, &mut out),
            12..=15 => eunomia_poll(vm, index.max(0), format, function, null_mut()),
            16 => {
                eunomia_stop(vm);
                eunomia_run(vm, format, function, null_mut())
            }
            17 => eunomia_epoll_fd(vm).min(0),
            18 => eunomia_pause(vm, index),
            19 => eunomia_stats_get(vm, other.cast()),
            20 | 21 => eunomia_read(vm, index.clamp(0, 1), format, buffer, len, other.cast()),
            22 => eunomia_queue_start(vm, len << index.max(0)),
            23 => eunomia_queue_stop(vm),
            24 => eunomia_iter_each(vm, name, function, null_mut()),
            25 => eunomia_map_at(vm, index, other.cast()),
            26 => eunomia_map_find(vm, name, other.cast()),
            27 => eunomia_map_get(vm, name, buffer, len, other, len),
            28 => eunomia_map_set(vm, name, buffer, len, other, len, flags),
            29 => eunomia_map_del(vm, name, buffer, len),
            30 => eunomia_map_next(vm, name, if index < 0 { null() } else { buffer }, other, len),
            31 => eunomia_map_get_json(vm, name, value, &mut out),
            32 => eunomia_map_set_json(vm, name, value, value, flags),
            33 => eunomia_map_each(vm, name, format, function, null_mut()),
            34 => eunomia_map_dump(vm, name, format, buffer, len, other.cast()),
            35 => eunomia_describe(vm, &mut out, &mut size),
            36 => eunomia_prog_set_autoload(vm, name, index),
            _ => eunomia_prog_set_target_json(vm, name, value),
        }
    };
    // SAFETY: as above; no pointers. The call triggers events of an attached package.
    unsafe {
        assert_ne!(status, INTERNAL, "{:?}", std::ffi::CStr::from_ptr(eunomia_errmsg(vm)));
        // Functions for any thread do not change the message.
        if status < 0 && !(17..=19).contains(&what) {
            assert!(
                !std::ffi::CStr::from_ptr(eunomia_errmsg(vm)).is_empty(),
                "status {status} without a message"
            );
        } else if !out.is_null() {
            let _ = std::ffi::CStr::from_ptr(out).to_bytes();
        }
        libc::getpgid(0);
    }
    Ok(())
}
