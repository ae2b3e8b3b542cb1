//! Addresses on stacks as functions: of the kernel by /proc/kallsyms, of processes by their files.
//!
//! The library gives addresses; what they mean is found out here, when they are shown. A process may be gone by then, or
//! its files may not be for us to read: its addresses stay numbers.

use std::fmt::Write;
use std::path::Path;

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

/// Knows the functions of the kernel and of processes that it was asked about.
pub struct Symbols {
    symbolizer: Symbolizer,
    kernel: Source<'static>,
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
            map_files: has(Capability::CAP_CHECKPOINT_RESTORE) || has(Capability::CAP_SYS_ADMIN),
        }
    }

    /// Appends a line for each address of a stack, which ends at the first zero. `pid`: the process of those that do not
    /// belong to the kernel.
    pub fn stack(&self, addresses: &[u64], pid: u32, out: &mut Vec<u8>) {
        let len = addresses.iter().position(|address| *address == 0).unwrap_or(addresses.len());
        let mut rest = &addresses[..len];
        while let Some(first) = rest.first() {
            let same = |address: &u64| is_kernel(*address) == is_kernel(*first);
            let run = rest.iter().position(|address| !same(address)).unwrap_or(rest.len());
            let (part, others) = rest.split_at(run);
            self.part(part, pid, out);
            rest = others;
        }
    }

    fn part(&self, addresses: &[u64], pid: u32, out: &mut Vec<u8>) {
        let process;
        let source = if is_kernel(addresses[0]) {
            &self.kernel
        } else {
            let (map_files, debug_syms) = (self.map_files, false);
            process = Source::Process(Process { map_files, debug_syms, ..Process::new(Pid::from(pid)) });
            &process
        };
        let known = self.symbolizer.symbolize(source, Input::AbsAddr(addresses)).unwrap_or_default();
        for (index, address) in addresses.iter().enumerate() {
            let mut line = String::from("    ");
            // Writing to a string cannot fail.
            let _ = match known.get(index) {
                Some(Symbolized::Sym(symbol)) => {
                    let module = symbol.module.as_deref().and_then(|path| Path::new(path).file_name());
                    let module =
                        module.map(|name| format!(" ({})", name.to_string_lossy())).unwrap_or_default();
                    write!(line, "{}+{:#x}{module}", symbol.name, symbol.offset)
                }
                _ => write!(line, "{address:#x}"),
            };
            // Names come from files of other people.
            out.extend(
                line.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>().bytes(),
            );
            out.push(b'\n');
        }
    }
}

/// The upper half of the address space is the kernel's.
fn is_kernel(address: u64) -> bool {
    address >> 63 == 1
}
