//! Addresses on stacks as functions: of the kernel by /proc/kallsyms, of processes by their files.
//!
//! The library gives addresses; what they mean is found out here, when they are shown. A process may be gone by then, or
//! its files may not be for us to read: its addresses stay numbers.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use blazesym::symbolize::source::{Kernel, Process, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use blazesym::{MaybeDefault, Pid};
use caps::{CapSet, Capability};

/// What reading symbols takes: those of the kernel (kptr_restrict), maps and files of any process.
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

/// Knows the functions of the kernel and of processes that it was asked about.
pub struct Symbols {
    symbolizer: Symbolizer,
    kernel: Source<'static>,
    /// Names by process (0: the kernel) and address.
    known: HashMap<(u32, u64), Box<str>>,
    /// When the names of processes were last forgotten.
    since: Instant,
    /// Whether the files of processes can be had by what is mapped rather than by name, which is right in containers too.
    map_files: bool,
}

impl Symbols {
    /// Reads nothing yet.
    pub fn new() -> Symbols {
        // A vmlinux file would take longer to read than it is worth.
        let kernel = Kernel { vmlinux: MaybeDefault::None, debug_syms: false, ..Kernel::default() };
        let has = |cap| caps::has_cap(None, CapSet::Effective, cap).unwrap_or(false);
        Symbols {
            symbolizer: Symbolizer::builder().enable_code_info(false).enable_inlined_fns(false).build(),
            kernel: Source::Kernel(kernel),
            known: HashMap::new(),
            since: Instant::now(),
            map_files: has(Capability::CAP_CHECKPOINT_RESTORE) || has(Capability::CAP_SYS_ADMIN),
        }
    }

    /// Calls `frame` with the name of each address of a stack, which ends at the first zero. `pid`: the process of those
    /// that do not belong to the kernel.
    pub fn stack(&mut self, addresses: &[u64], pid: u32, mut frame: impl FnMut(&str)) {
        if self.since.elapsed() > REMEMBERED {
            self.known.retain(|(_, address), _| is_kernel(*address));
            self.since = Instant::now();
        }
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let len = addresses.iter().position(|address| *address == 0).unwrap_or(addresses.len());
        let key = |address: u64| (if is_kernel(address) { 0 } else { pid }, address);
        let unknown = |address: &u64| !self.known.contains_key(&key(*address));
        let (kernel, process): (Vec<u64>, Vec<u64>) =
            addresses[..len].iter().copied().filter(unknown).partition(|address| is_kernel(*address));
        self.learn(&kernel, 0);
        self.learn(&process, pid);
        for address in &addresses[..len] {
            match self.known.get(&key(*address)) {
                Some(name) => frame(name),
                None => frame(&format!("{address:#x}")),
            }
        }
    }

    /// Finds out the names of addresses, all of the kernel or of one process.
    fn learn(&mut self, addresses: &[u64], pid: u32) {
        let Some(first) = addresses.first() else { return };
        if pid == 0 && !is_kernel(*first) {
            // To blazesym that would be ecli itself.
            return;
        }
        let process;
        let source = if is_kernel(*first) {
            &self.kernel
        } else {
            let (map_files, debug_syms) = (self.map_files, false);
            process = Source::Process(Process { map_files, debug_syms, ..Process::new(Pid::from(pid)) });
            &process
        };
        let found = self.symbolizer.symbolize(source, Input::AbsAddr(addresses)).unwrap_or_default();
        for (index, address) in addresses.iter().enumerate() {
            let name = match found.get(index) {
                Some(Symbolized::Sym(symbol)) => {
                    let module = symbol.module.as_deref().and_then(|path| Path::new(path).file_name());
                    let module =
                        module.map(|name| format!(" ({})", name.to_string_lossy())).unwrap_or_default();
                    format!("{}+{:#x}{module}", symbol.name, symbol.offset)
                }
                _ => format!("{address:#x}"),
            };
            // Names come from files of other people.
            let name = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            self.known.insert((pid, *address), name);
        }
    }
}

/// The upper half of the address space is the kernel's.
fn is_kernel(address: u64) -> bool {
    address >> 63 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_an_unknown_process_are_not_taken_for_our_own() {
        let own = addresses_of_an_unknown_process_are_not_taken_for_our_own as fn() as usize as u64;
        let named = |pid| {
            let mut names = Vec::new();
            Symbols::new().stack(&[own], pid, |name| names.push(name.to_owned()));
            names
        };
        assert_eq!(named(0), [format!("{own:#x}")]);
        assert!(named(std::process::id())[0].contains("addresses_of_an_unknown_process"));
    }
}
