//! Function names for the addresses on stacks: of the kernel from /proc/kallsyms, of processes from their files.
//!
//! The files belong to the users who run the processes. They may block, change while they are read, or exploit the reader.
//! So this process only opens them (`open`), and only regular files. A process without privileges (`child`) reads them and
//! has a time limit per request (`client`). An address that cannot be named in time stays a number.

mod child;
mod client;
mod elf;
mod open;
mod protocol;
mod text_files;

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use caps::Capability;

use crate::terminal::plain;
use client::{FILE_LIMIT, KERNEL_LIMIT, Reader};
use open::Process;
use protocol::{Backing, MAX_NUMBERS, Mapping, Name, Task};

pub use child::{ARGUMENT, serve};
pub use client::stop;

/// The privileges for opening files with symbols: those of the kernel (kptr_restrict), and maps and files of any process.
pub const PRIVILEGES: [Capability; 4] = [
    Capability::CAP_SYSLOG,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_CHECKPOINT_RESTORE,
];

/// The time for which the names of a process are cached. The process may load other files, or another process may get
/// its id.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// Limit on cached names.
const MAX_NAMES: usize = 1 << 16;

/// Limit on paused processes.
const MAX_PAUSED: usize = 1 << 12;

/// If a lookup in a process takes longer than this, further lookups in that process are paused for four times the excess. So
/// no process can use more than a fifth of the time with large files.
const QUICK: Duration = Duration::from_millis(200);

/// The pause after the reader failed on the files of a process.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// Looks up function names of the kernel and of processes. Clones share a cache.
#[derive(Clone, Default)]
pub struct Symbols(Rc<RefCell<Cache>>);

#[derive(Default)]
struct Cache {
    reader: Reader,
    /// Names by process (0: the kernel) and address.
    names: HashMap<(u32, u64), Box<str>>,
    /// The time when the names of processes were last discarded.
    since: Option<Instant>,
    /// Processes whose lookups are paused, and until when.
    paused: HashMap<u32, Instant>,
}

impl Symbols {
    /// Creates an empty cache. The reader starts with the first lookup.
    pub fn new() -> Symbols {
        Symbols::default()
    }

    /// Calls `frame` with the name of each address of a stack, up to the first zero. `pid` is the process of the addresses in
    /// user space.
    pub fn stack(&self, addresses: &[u64], pid: u32, mut frame: impl FnMut(&str)) {
        let len = addresses.iter().position(|address| *address == 0).unwrap_or(addresses.len());
        let addresses = &addresses[..len];
        let key = |address: u64| (if is_kernel(address) { 0 } else { pid }, address);
        let mut cache = self.0.borrow_mut();
        cache.expire();
        let unknown = |address: &u64| !cache.names.contains_key(&key(*address));
        let (kernel, process): (Vec<u64>, Vec<u64>) =
            addresses.iter().copied().filter(unknown).partition(|address| is_kernel(*address));
        for some in kernel.chunks(MAX_NUMBERS) {
            cache.learn_kernel(some);
        }
        for some in process.chunks(MAX_NUMBERS) {
            cache.learn_process(some, pid);
        }
        for address in addresses {
            match cache.names.get(&key(*address)) {
                Some(name) => frame(name),
                None => frame(&format!("{address:#x}")),
            }
        }
    }
}

impl Cache {
    fn expire(&mut self) {
        if self.since.is_none_or(|since| since.elapsed() > CACHE_TIME) {
            self.names.retain(|(_, address), _| is_kernel(*address));
            self.since = Some(Instant::now());
        }
        if self.names.len() > MAX_NAMES {
            self.names.clear();
        }
    }

    fn learn_kernel(&mut self, addresses: &[u64]) {
        let kallsyms = if self.reader.has_kernel() { None } else { open::kallsyms() };
        let kallsyms = kallsyms.as_ref().map(AsFd::as_fd);
        let names = self.reader.names(Task::Kernel, addresses, kallsyms, KERNEL_LIMIT).unwrap_or_default();
        for (address, name) in addresses.iter().zip(names) {
            // A missing name is not cached: the reader may have failed temporarily.
            if let Some(name) = name {
                self.names.insert((0, *address), text(&name, None));
            }
        }
    }

    fn learn_process(&mut self, addresses: &[u64], pid: u32) {
        // 0 is an unknown process.
        if pid == 0 || self.is_paused(pid) || !self.reader.is_ready() {
            return;
        }
        let start = Instant::now();
        let names = self.names_in(addresses, pid);
        let pause = match names {
            Some(_) => 4 * start.elapsed().saturating_sub(QUICK),
            None if self.reader.is_ready() => Duration::ZERO,
            None => FAILURE_PAUSE,
        };
        if !pause.is_zero() && self.paused.len() < MAX_PAUSED {
            self.paused.insert(pid, Instant::now() + pause);
        }
        let names = names.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
        for (address, name) in addresses.iter().zip(names) {
            self.names.insert((pid, *address), name.unwrap_or_else(|| format!("{address:#x}").into()));
        }
    }

    fn is_paused(&mut self, pid: u32) -> bool {
        let now = Instant::now();
        if self.paused.len() == MAX_PAUSED {
            self.paused.retain(|_, until| *until > now);
        }
        self.paused.get(&pid).is_some_and(|until| *until > now)
    }

    /// The names of addresses in a process, in order; `None` if it has ended or the reader failed.
    fn names_in(&mut self, addresses: &[u64], pid: u32) -> Option<Vec<Option<Box<str>>>> {
        let process = Process::open(pid)?;
        let maps = process.maps()?;
        let mappings = self.reader.mappings(addresses, maps.as_fd())?;
        let mut names = vec![None; addresses.len()];
        for index in 0..mappings.len() {
            let Some(mapping) = &mappings[index] else { continue };
            let is_first = !mappings[..index].iter().flatten().any(|earlier| earlier.is_with(mapping));
            if !is_first {
                continue;
            }
            let here: Vec<usize> = (index..mappings.len())
                .filter(|other| mappings[*other].as_ref().is_some_and(|other| other.is_with(mapping)))
                .collect();
            let numbers: Vec<u64> = match mapping.backing {
                Backing::Anonymous => here.iter().map(|at| addresses[*at]).collect(),
                _ => here.iter().filter_map(|at| Some(mappings[*at].as_ref()?.offset)).collect(),
            };
            let found = self.names_at(&process, mapping, &numbers)?;
            let module = module(mapping);
            for (at, name) in here.iter().zip(found) {
                names[*at] = name.map(|name| text(&name, module));
            }
        }
        Some(names)
    }

    /// The names in one mapping; `None` if the reader failed.
    fn names_at(
        &mut self,
        process: &Process,
        mapping: &Mapping,
        numbers: &[u64],
    ) -> Option<Vec<Option<Name>>> {
        let (task, file) = match mapping.backing {
            Backing::File => (Task::File, process.mapped(mapping)),
            Backing::Anonymous => (Task::PerfMap, process.perf_map()),
            Backing::Vdso => return self.reader.names(Task::Vdso, numbers, None, FILE_LIMIT),
        };
        match file {
            Some(file) => self.reader.names(task, numbers, Some(file.as_fd()), FILE_LIMIT),
            None => Some(Vec::new()),
        }
    }
}

/// Whether an address is in the kernel: in the upper half of the address space.
fn is_kernel(address: u64) -> bool {
    address >> 63 == 1
}

/// The name of the file, printed in parentheses after a function.
fn module(mapping: &Mapping) -> Option<&str> {
    match mapping.backing {
        Backing::File => Path::new(&mapping.path).file_name()?.to_str(),
        Backing::Vdso => Some("[vdso]"),
        Backing::Anonymous => None,
    }
}

/// Formats a name. It is not trusted: it comes from a file of another user, through a process that may be compromised.
fn text(name: &Name, module: Option<&str>) -> Box<str> {
    let module = module.map(|module| format!(" ({module})")).unwrap_or_default();
    let text = format!("{}+{:#x}{module}", name.text, name.offset);
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    plain(&text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_an_unknown_process_have_no_names() {
        let own = addresses_of_an_unknown_process_have_no_names as fn() as usize as u64;
        let mut names = Vec::new();
        Symbols::new().stack(&[own], 0, |name| names.push(name.to_owned()));
        assert_eq!(names, [format!("{own:#x}")]);
    }

    #[test]
    fn control_characters_in_names_are_replaced() {
        let name = Name { text: "a\u{1b}[2J\nb\u{9b}".into(), offset: 16 };
        assert_eq!(&*text(&name, Some("x\ty")), "a?[2J?b?+0x10 (x?y)");
    }
}
