//! A loaded module: WAMR has checked it and resolved its imports.

use std::ffi::{CStr, c_char};

use wamr_sys as w;

use super::runtime::{Import, Runtime};
use super::signature::signature;
use crate::error::{Error, Result, Status};

/// A loaded module.
pub struct Module {
    pub(super) ptr: w::wasm_module_t,
    /// WAMR has changed some of these bytes and still reads them.
    _bytes: Vec<u8>,
    _runtime: Runtime,
}

// SAFETY: WAMR does not bind a loaded module to a thread.
unsafe impl Send for Module {}
// SAFETY: a loaded module is only read; instances hold everything that changes.
unsafe impl Sync for Module {}

/// An import of a module.
pub struct Imported {
    /// The module that it is imported from.
    pub module: String,
    /// Its name.
    pub name: String,
    /// Whether it is a function.
    pub is_function: bool,
    /// Whether a function with this name and type exists.
    pub is_known: bool,
}

/// A function that a module exports.
pub struct Exported {
    /// Its name.
    pub name: String,
    /// Its type, as in [`Import`].
    pub signature: String,
}

/// A buffer for messages of WAMR.
pub(super) type Message = [c_char; 256];

impl Module {
    /// Loads a module. The error has WAMR's reason.
    pub fn load(mut bytes: Vec<u8>, imports: &'static [Import]) -> Result<Module> {
        let runtime = Runtime::new(imports)?;
        let mut message: Message = [0; 256];
        let len = u32::try_from(bytes.len())
            .map_err(|_| Error::new(Status::Package, "module: larger than 4 GiB"))?;
        // SAFETY: the module keeps the bytes, at the same address, until it is unloaded.
        let ptr = unsafe {
            w::wasm_runtime_load(bytes.as_mut_ptr(), len, message.as_mut_ptr(), message.len() as u32)
        };
        if ptr.is_null() {
            return Err(Error::new(Status::Package, format_args!("module: {}", text(&message))));
        }
        Ok(Module { ptr, _bytes: bytes, _runtime: runtime })
    }

    /// Returns all imports.
    pub fn imports(&self) -> Vec<Imported> {
        // SAFETY: a getter.
        let count = unsafe { w::wasm_runtime_get_import_count(self.ptr) };
        (0..count).map(|index| self.import(index)).collect()
    }

    fn import(&self, index: i32) -> Imported {
        let mut found = w::wasm_import_t::default();
        // SAFETY: the index is in range; the names live as long as the module.
        let (module, name) = unsafe {
            w::wasm_runtime_get_import_type(self.ptr, index, &mut found);
            (string(found.module_name), string(found.name))
        };
        let is_function = found.kind == w::WASM_IMPORT_EXPORT_KIND_FUNC;
        Imported { module, name, is_function, is_known: found.linked }
    }

    /// Returns all exported functions.
    pub fn functions(&self) -> Vec<Exported> {
        // SAFETY: a getter.
        let count = unsafe { w::wasm_runtime_get_export_count(self.ptr) };
        (0..count).filter_map(|index| self.function(index)).collect()
    }

    fn function(&self, index: i32) -> Option<Exported> {
        let mut found = w::wasm_export_t::default();
        // SAFETY: the index is in range; name and type live as long as the module, and the kind tells which member of
        // `u` is valid.
        unsafe {
            w::wasm_runtime_get_export_type(self.ptr, index, &mut found);
            if found.kind != w::WASM_IMPORT_EXPORT_KIND_FUNC {
                return None;
            }
            let ty = found.u.func_type;
            let (params, results) =
                (w::wasm_func_type_get_param_count(ty), w::wasm_func_type_get_result_count(ty));
            let params = (0..params).map(|index| w::wasm_func_type_get_param_valkind(ty, index));
            let results = (0..results).map(|index| w::wasm_func_type_get_result_valkind(ty, index));
            Some(Exported { name: string(found.name), signature: signature(params, results) })
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the last use; instances hold the module.
        unsafe { w::wasm_runtime_unload(self.ptr) }
    }
}

/// Returns a name of the module, which is UTF-8.
///
/// # Safety
/// `name` is null or a C string.
unsafe fn string(name: *const c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: not null, and a C string as required above.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

/// Returns the message that WAMR has written, without its prefix.
pub(super) fn text(message: &Message) -> String {
    let bytes = message.iter().map(|&c| c as u8).take_while(|&byte| byte != 0).collect::<Vec<_>>();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let prefixes = ["WASM module load failed: ", "WASM module instantiate failed: "];
    prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(&text).to_owned()
}
