//! Addresses on stacks as functions: of the kernel by /proc/kallsyms, of processes by their files.
//!
//! The library gives addresses; what they mean is found out here, when they are shown. The files belong to whoever runs the
//! processes, and may be made to hang, to change while they are read, or to break what reads them. So this process only opens
//! them (`open`), and only plain files; a process without privileges (`child`) reads them and gets a bounded time for each
//! question (`client`). What cannot be named in time stays a number.

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
use client::Reader;
use open::Process;
use protocol::{Backing, MAX_NUMBERS, Name, Place, Task};

pub use child::{ARGUMENT, serve};
pub use client::hurry;

/// What opening the files that symbols are in takes: those of the kernel (kptr_restrict), maps and files of any process.
pub const PRIVILEGES: [Capability; 4] = [
    Capability::CAP_SYSLOG,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_CHECKPOINT_RESTORE,
];

/// How long the names of a process are taken for true: it may load other files, or be another one with the same number.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Names that are remembered at most.
const MAX_KNOWN: usize = 1 << 16;

/// Processes that are not asked about for a while, at most.
const MAX_RESTING: usize = 1 << 12;

/// A question that takes longer than this has its process rest, four times as long as it took beyond: nobody gets more than a
/// fifth of the time by having large files read again and again.
const QUICK: Duration = Duration::from_millis(200);

/// How long a process rests whose files the reader could not cope with.
const UNFIT: Duration = Duration::from_secs(60);

/// Knows the functions of the kernel and of processes that it was asked about. Copies share what they know.
#[derive(Clone, Default)]
pub struct Symbols(Rc<RefCell<Known>>);

#[derive(Default)]
struct Known {
    reader: Reader,
    /// Names by process (0: the kernel) and address.
    names: HashMap<(u32, u64), Box<str>>,
    /// When the names of processes were last forgotten.
    since: Option<Instant>,
    /// Processes that are not asked about until then.
    resting: HashMap<u32, Instant>,
}

impl Symbols {
    /// Starts nothing and reads nothing yet.
    pub fn new() -> Symbols {
        Symbols::default()
    }

    /// Calls `frame` with the name of each address of a stack, which ends at the first zero. `pid`: the process of those
    /// that do not belong to the kernel.
    pub fn stack(&self, addresses: &[u64], pid: u32, mut frame: impl FnMut(&str)) {
        let len = addresses.iter().position(|address| *address == 0).unwrap_or(addresses.len());
        let addresses = &addresses[..len];
        let key = |address: u64| (if is_kernel(address) { 0 } else { pid }, address);
        let mut known = self.0.borrow_mut();
        known.forget();
        let unknown = |address: &u64| !known.names.contains_key(&key(*address));
        let (kernel, process): (Vec<u64>, Vec<u64>) =
            addresses.iter().copied().filter(unknown).partition(|address| is_kernel(*address));
        for some in kernel.chunks(MAX_NUMBERS) {
            known.learn_kernel(some);
        }
        for some in process.chunks(MAX_NUMBERS) {
            known.learn_process(some, pid);
        }
        for address in addresses {
            match known.names.get(&key(*address)) {
                Some(name) => frame(name),
                None => frame(&format!("{address:#x}")),
            }
        }
    }
}

impl Known {
    fn forget(&mut self) {
        if self.since.is_none_or(|since| since.elapsed() > REMEMBERED) {
            self.names.retain(|(_, address), _| is_kernel(*address));
            self.since = Some(Instant::now());
        }
        if self.names.len() > MAX_KNOWN {
            self.names.clear();
        }
    }

    fn learn_kernel(&mut self, addresses: &[u64]) {
        let kallsyms = if self.reader.has_kernel() { None } else { open::kallsyms() };
        let kallsyms = kallsyms.as_ref().map(AsFd::as_fd);
        // Only the kernel writes that file.
        let names = self.reader.names(Task::Kernel, addresses, kallsyms, KERNEL).unwrap_or_default();
        for (address, name) in addresses.iter().zip(names) {
            // That there is none may be because nobody could be asked now.
            if let Some(name) = name {
                self.names.insert((0, *address), text(&name, None));
            }
        }
    }

    fn learn_process(&mut self, addresses: &[u64], pid: u32) {
        // Zero would be ecli itself.
        if pid == 0 || self.is_resting(pid) || !self.reader.is_ready() {
            return;
        }
        let start = Instant::now();
        let names = self.names_in(addresses, pid);
        let rest = match names {
            Some(_) => 4 * start.elapsed().saturating_sub(QUICK),
            None if self.reader.is_ready() => Duration::ZERO,
            None => UNFIT,
        };
        if !rest.is_zero() && self.resting.len() < MAX_RESTING {
            self.resting.insert(pid, Instant::now() + rest);
        }
        let names = names.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
        for (address, name) in addresses.iter().zip(names) {
            self.names.insert((pid, *address), name.unwrap_or_else(|| format!("{address:#x}").into()));
        }
    }

    fn is_resting(&mut self, pid: u32) -> bool {
        let now = Instant::now();
        if self.resting.len() == MAX_RESTING {
            self.resting.retain(|_, until| *until > now);
        }
        self.resting.get(&pid).is_some_and(|until| *until > now)
    }

    /// The names of addresses in a process, in their order; `None` if it has gone or the reader cannot cope with it.
    fn names_in(&mut self, addresses: &[u64], pid: u32) -> Option<Vec<Option<Box<str>>>> {
        let process = Process::open(pid)?;
        let maps = process.maps()?;
        let places = self.reader.places(addresses, maps.as_fd())?;
        let mut names = vec![None; addresses.len()];
        for index in 0..places.len() {
            let Some(place) = &places[index] else { continue };
            let is_first = !places[..index].iter().flatten().any(|earlier| earlier.is_with(place));
            if !is_first {
                continue;
            }
            let here: Vec<usize> = (index..places.len())
                .filter(|other| places[*other].as_ref().is_some_and(|other| other.is_with(place)))
                .collect();
            let numbers: Vec<u64> = match place.backing {
                Backing::Anonymous => here.iter().map(|at| addresses[*at]).collect(),
                _ => here.iter().filter_map(|at| Some(places[*at].as_ref()?.offset)).collect(),
            };
            let found = self.names_at(&process, place, &numbers)?;
            let module = module(place);
            for (at, name) in here.iter().zip(found) {
                names[*at] = name.map(|name| text(&name, module));
            }
        }
        Some(names)
    }

    /// The names of what is mapped at one place. `None`: the reader cannot cope with it.
    fn names_at(&mut self, process: &Process, place: &Place, numbers: &[u64]) -> Option<Vec<Option<Name>>> {
        let (task, file) = match place.backing {
            Backing::File => (Task::File, process.mapped(place)),
            Backing::Anonymous => (Task::PerfMap, process.perf_map()),
            Backing::Vdso => return self.reader.names(Task::Vdso, numbers, None, STRANGER),
        };
        match file {
            Some(file) => self.reader.names(task, numbers, Some(file.as_fd()), STRANGER),
            None => Some(Vec::new()),
        }
    }
}

/// How long the reader may take over a file of the kernel, which nobody else can change.
const KERNEL: Duration = Duration::from_secs(10);
/// How long it may take over any other.
const STRANGER: Duration = Duration::from_secs(2);

/// The upper half of the address space is the kernel's.
fn is_kernel(address: u64) -> bool {
    address >> 63 == 1
}

/// What stands behind a function in parentheses.
fn module(place: &Place) -> Option<&str> {
    match place.backing {
        Backing::File => Path::new(&place.path).file_name()?.to_str(),
        Backing::Vdso => Some("[vdso]"),
        Backing::Anonymous => None,
    }
}

/// A name as it is shown. It comes from files of other people, through a process that they may have taken over.
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
    fn addresses_of_an_unknown_process_are_not_taken_for_our_own() {
        let own = addresses_of_an_unknown_process_are_not_taken_for_our_own as fn() as usize as u64;
        let mut names = Vec::new();
        Symbols::new().stack(&[own], 0, |name| names.push(name.to_owned()));
        assert_eq!(names, [format!("{own:#x}")]);
    }

    #[test]
    fn a_name_gives_a_terminal_no_orders() {
        let name = Name { text: "a\u{1b}[2J\nb\u{9b}".into(), offset: 16 };
        assert_eq!(&*text(&name, Some("x\ty")), "a?[2J?b?+0x10 (x?y)");
    }
}
