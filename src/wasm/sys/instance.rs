//! An instance of a module: its memory, its stack and the code that runs on them.

use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use wamr_sys as w;

use super::guest::{Guest, Host, Slot};
use super::module::{Message, Module, text};
use super::stopper::Stopper;
use crate::error::{Error, Result, Status};

/// Sizes that limit a guest.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Size of the stack of calls and locals in bytes.
    pub stack: u32,
    /// Size of the heap for `malloc` in bytes, if the guest has no `malloc` of its own.
    pub heap: u32,
    /// Maximum size of the linear memory in bytes, not counting the heap.
    pub memory: u32,
}

/// Size of a page of linear memory in bytes.
pub const PAGE: u32 = 64 << 10;

/// An instance. It must stay on the thread that made it.
pub struct Instance<'h> {
    ptr: w::wasm_module_inst_t,
    env: w::wasm_exec_env_t,
    slot: Box<Slot<'h>>,
    _module: Arc<Module>,
}

impl<'h> Instance<'h> {
    /// Makes an instance of `module`. No code of the guest runs.
    pub fn new(
        module: Arc<Module>,
        limits: Limits,
        host: &'h dyn Host,
        stopper: Arc<Stopper>,
    ) -> Result<Instance<'h>> {
        let mut message: Message = [0; 256];
        let args = w::InstantiationArgs {
            default_stack_size: limits.stack,
            host_managed_heap_size: limits.heap,
            max_memory_pages: limits.memory / PAGE,
        };
        let failed = |why: &str| Error::new(Status::Wasm, format_args!("the guest cannot be started: {why}"));
        let slot = Box::new(Slot::new(host, stopper));
        // SAFETY: module, arguments and message live for the call; the slot lives until the instance is gone, see `drop`.
        let (ptr, env) = unsafe {
            let (buffer, len) = (message.as_mut_ptr(), message.len() as u32);
            let ptr = w::wasm_runtime_instantiate_ex(module.ptr, &args, buffer, len);
            if ptr.is_null() {
                return Err(failed(&text(&message)));
            }
            let env = w::wasm_runtime_get_exec_env_singleton(ptr);
            if env.is_null() {
                w::wasm_runtime_deinstantiate(ptr);
                return Err(failed("out of memory"));
            }
            w::wasm_runtime_set_custom_data(ptr, ptr::from_ref(&*slot).cast_mut().cast());
            (ptr, env)
        };
        slot.stopper.set_env(env);
        Ok(Instance { ptr, env, slot, _module: module })
    }

    /// Borrows the instance, to call it and to access its memory.
    pub fn guest(&self) -> Guest<'_> {
        Guest { ptr: self.ptr, env: self.env, _instance: PhantomData }
    }

    /// Whether its memory could not grow when it asked for more.
    pub fn is_starved(&self) -> bool {
        self.slot.is_starved.get()
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        self.slot.stopper.set_env(ptr::null_mut());
        // SAFETY: the last use; no code of the guest is running, because calls borrow the instance.
        unsafe { w::wasm_runtime_deinstantiate(self.ptr) }
    }
}
