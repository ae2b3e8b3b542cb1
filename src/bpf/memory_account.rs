//! Accounts for the kernel memory of all packages of a vm. A package that would exceed the limit is refused before any part of
//! it is loaded.

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

/// The assumed number of bytes of a program in addition to its instructions.
const PROGRAM: u64 = 16 << 10;

/// The limit for all packages of a vm, and what they use.
pub struct Account {
    /// 0: the default, which is computed at the first load.
    limit: AtomicU64,
    taken: AtomicU64,
    /// Paths of pinned maps. They outlive their package, so each is counted once, until the vm is destroyed.
    pinned: Mutex<Vec<CString>>,
}

/// The memory of one package. Dropping it returns the memory to the account.
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Account {
    /// Creates an account with the limit of the host: 0 for the default, `u64::MAX` for no limit.
    pub fn new(limit: u64) -> Account {
        Account { limit: limit.into(), taken: 0.into(), pinned: Mutex::default() }
    }

    /// Charges what a package needs. `elf` is its object.
    pub fn take(
        self: &Arc<Self>,
        opened: &Opened,
        elf: &[u8],
        perf_pages: u32,
        dispatchers: u64,
    ) -> Result<Charge> {
        let limit = self.limit();
        if limit != u64::MAX {
            check_objects(opened)?;
        }
        let mut known = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let Need { sum, largest, map, kept, pinned } = Need::of(opened, elf, perf_pages, dispatchers, &known);
        let sum = sum.saturating_add(self.taken.load(Relaxed));
        if sum <= limit {
            known.extend(pinned);
            let taken = self.taken.swap(sum, Relaxed);
            return Ok(Charge { account: Arc::clone(self), bytes: sum - taken - kept });
        }
        let [bytes, sum, limit] = [largest, sum, limit].map(|bytes| bytes.div_ceil(1 << 20));
        let text =
            format!("takes {bytes} MiB of kernel memory, {sum} MiB in total; the limit is {limit} MiB");
        let error = Error::new(Status::NoMem, text).with_hint(Hint::KernelMemory);
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

/// The memory that a package needs: its full maps, its programs and its types.
pub struct Need<'a> {
    /// Bytes in total.
    pub sum: u64,
    /// Bytes of the largest part.
    largest: u64,
    /// The largest part if it is a map; `None` if the programs are the largest part.
    map: Option<&'a Map>,
    /// Bytes of the total that outlive the package: its pinned maps.
    kept: u64,
    /// Paths of these maps.
    pinned: Vec<CString>,
}

impl Need<'_> {
    /// Computes the needs of an object and its dispatchers. Maps pinned at a path in `known` are already accounted for.
    pub fn of<'a>(
        opened: &'a Opened,
        elf: &[u8],
        perf_pages: u32,
        dispatchers: u64,
        known: &[CString],
    ) -> Need<'a> {
        // A dispatcher has a program, slots, and the number that all dispatchers read.
        let programs = programs(opened, elf) + dispatchers * (PROGRAM + 2 * opened.machine.page);
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

/// Returns the limit that a value of `Options::max_kernel_memory` means on this machine at this time.
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

/// Refuses programs that allocate objects at run time. Nothing limits the objects that these functions allocate, and
/// they are not charged to a memory cgroup.
fn check_objects(opened: &Opened) -> Result<()> {
    for name in ["bpf_obj_new_impl", "bpf_percpu_obj_new_impl"] {
        if opened.btf.has_function(name) {
            return Err(Error::new(
                Status::NoMem,
                format_args!("programs call {name}, whose memory cannot be limited"),
            )
            .with_hint(Hint::NoKernelMemoryLimit));
        }
    }
    Ok(())
}

/// Estimates the bytes of programs and types. The kernel keeps the instructions, the machine code and the line
/// information of a program (32 bytes for each instruction of 8 bytes), and a few pages. It keeps the types, and the
/// offset of each. libbpf gives each program its own copy of the functions in .text that it calls; the estimate assumes
/// that each program calls all of them.
fn programs(opened: &Opened, elf: &[u8]) -> u64 {
    const FACTOR: u64 = 4;
    let text: usize = elf::sections(elf, ".text").unwrap_or_default().into_iter().map(<[u8]>::len).sum();
    let count = opened.object.progs().filter(|prog| prog.autoload()).count() as u64;
    FACTOR * elf.len() as u64 + count * (PROGRAM + FACTOR * text as u64)
}
