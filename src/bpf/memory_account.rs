//! The account of a vm: what its packages have taken of the kernel memory that they may take together. A package that
//! would take more is refused before anything of it is in the kernel.

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::elf;
use super::map::Map;
use super::map_memory::usual_limit;
use super::object::Opened;
use super::sys::object::possible_cpus;
use crate::error::{Error, Hint, Result, Status};
use crate::os;

/// What the packages of a vm may take together, and what they have taken.
pub struct Account {
    /// 0: the usual one, which is found out at the first load.
    limit: AtomicU64,
    taken: AtomicU64,
    /// Where maps are pinned. They stay when their package is gone, so they count once and until the end.
    pinned: Mutex<Vec<CString>>,
}

/// What a package has taken, until it is dropped.
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Account {
    /// With the limit that the host has set: 0 for the usual one, all ones for none.
    pub fn new(limit: u64) -> Account {
        Account { limit: limit.into(), taken: 0.into(), pinned: Mutex::default() }
    }

    /// Takes what a package needs. `elf` is its object.
    pub fn take(self: &Arc<Self>, opened: &Opened, elf: &[u8], perf_pages: u32) -> Result<Charge> {
        let limit = self.limit();
        if limit != u64::MAX {
            check_objects(opened)?;
        }
        let mut known = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let Need { sum, largest, map, kept, pinned } = Need::of(opened, elf, perf_pages, &known);
        let sum = sum.saturating_add(self.taken.load(Relaxed));
        if sum <= limit {
            known.extend(pinned);
            let taken = self.taken.swap(sum, Relaxed);
            return Ok(Charge { account: Arc::clone(self), bytes: sum - taken - kept });
        }
        let [bytes, sum, limit] = [largest, sum, limit].map(|bytes| bytes.div_ceil(1 << 20));
        let text =
            format!("takes {bytes} MiB of kernel memory, {sum} MiB with all else; {limit} MiB are allowed");
        let error = Error::new(Status::NoMem, text).hint(Hint::KernelMemory);
        Err(match map {
            Some(map) => map.about(error),
            None => error.at("programs"),
        })
    }

    fn limit(&self) -> u64 {
        if self.limit.load(Relaxed) == 0 {
            self.limit.store(kernel_memory_limit(0), Relaxed);
        }
        self.limit.load(Relaxed)
    }
}

/// What a package needs: its maps when they are full, its programs and its types.
pub struct Need<'a> {
    /// All together, in bytes.
    pub sum: u64,
    /// The most that one of them needs,
    largest: u64,
    /// and which map that is; none if it is the programs.
    map: Option<&'a Map>,
    /// Bytes of the sum that stay when the package is gone: its pinned maps.
    kept: u64,
    /// Where these are pinned.
    pinned: Vec<CString>,
}

impl Need<'_> {
    /// Of that object; maps that are pinned at one of `known` are counted already.
    pub fn of<'a>(opened: &'a Opened, elf: &[u8], perf_pages: u32, known: &[CString]) -> Need<'a> {
        let programs = programs(opened, elf);
        let mut need = Need { sum: programs, largest: programs, map: None, kept: 0, pinned: Vec::new() };
        let made = opened.maps.iter().zip(opened.object.maps()).filter(|(_, raw)| raw.autocreate());
        for (map, raw) in made {
            let bytes = map.bytes(perf_pages, &opened.machine);
            if let Some(path) = raw.pin_path() {
                if known.iter().any(|known| **known == *path) {
                    continue;
                }
                need.kept = need.kept.saturating_add(bytes);
                need.pinned.push(path.to_owned());
            }
            need.sum = need.sum.saturating_add(bytes);
            if bytes > need.largest {
                (need.largest, need.map) = (bytes, Some(&**map));
            }
        }
        need
    }
}

/// What `Options::max_kernel_memory` stands for on this machine at this time.
pub fn kernel_memory_limit(given: u64) -> u64 {
    match given {
        0 => usual_limit(os::available_memory(), possible_cpus().unwrap_or(1) as u64),
        given => given,
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.taken.fetch_sub(self.bytes, Relaxed);
    }
}

/// Refuses programs that allocate objects while they run: nothing counts or limits these, and no memory cgroup is charged.
fn check_objects(opened: &Opened) -> Result<()> {
    for name in ["bpf_obj_new_impl", "bpf_percpu_obj_new_impl"] {
        if opened.btf.has_function(name) {
            let text = format_args!("programs call {name}, whose memory no limit counts");
            return Err(Error::new(Status::NoMem, text).hint(Hint::NoKernelMemoryLimit));
        }
    }
    Ok(())
}

/// Bytes of programs and types. The kernel keeps instructions, machine code and line information of a program, 32 bytes
/// for each instruction of 8, and a few pages; of types also where each one is. libbpf gives each program its own copy of
/// the functions in .text that it calls: all of them, for want of a better estimate.
fn programs(opened: &Opened, elf: &[u8]) -> u64 {
    const PROGRAM: u64 = 16 << 10;
    const FACTOR: u64 = 4;
    let text: usize = elf::sections(elf, ".text").unwrap_or_default().into_iter().map(<[u8]>::len).sum();
    let count = opened.object.progs().filter(|prog| prog.autoload()).count() as u64;
    FACTOR * elf.len() as u64 + count * (PROGRAM + FACTOR * text as u64)
}
