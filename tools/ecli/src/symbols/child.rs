//! The process that reads symbols. It has no privileges, opens no files, and only replies to requests.
//!
//! The files that it reads may be crafted to exploit it, and may change while it reads. It can be killed at any time. If it
//! is compromised, an attacker has 1 GiB of memory, the files that were sent to it, and a socket to send wrong names to.

use std::fs::File;
use std::io::{IoSliceMut, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use eunomia_agent::loader::privileges::allow_only;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send, sockopt::socket_type,
};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::elf::Elf;
use super::protocol::{MAX_NUMBERS, Name, Request, Task, encode_mappings, encode_names};
use super::text_files::{Kallsyms, PerfMap, mappings};
use crate::capabilities;

/// The only argument of such a process.
pub const ARGUMENT: &str = "--read-symbols";

/// Limit on its address space, in bytes.
const MEMORY: u64 = 1 << 30;
/// Limit on cached files of each kind.
const MAX_CACHED: usize = 48;
/// Limit on descriptors: cached files and some more.
const MAX_FILES: u64 = 64;

/// Replies to requests on standard input until it is closed.
pub fn serve() -> ExitCode {
    let input = std::io::stdin();
    let socket = input.as_fd();
    if socket_type(socket).is_err() {
        crate::error::say(format_args!("{ARGUMENT} is for internal use"));
        return ExitCode::FAILURE;
    }
    let vdso = own_vdso().and_then(Elf::read);
    if restrict().is_none() {
        return ExitCode::FAILURE;
    }
    let mut symbols = Symbols { vdso, ..Symbols::default() };
    while let Some((request, file)) = receive(socket) {
        let reply = symbols.reply(&request, file);
        if send(socket, &reply, SendFlags::NOSIGNAL).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Permanently drops everything that is not needed for reading.
fn restrict() -> Option<()> {
    let most = |most| Rlimit { current: Some(most), maximum: Some(most) };
    let limits =
        [(Resource::As, MEMORY), (Resource::Core, 0), (Resource::Fsize, 0), (Resource::Nofile, MAX_FILES)];
    for (resource, limit) in limits {
        setrlimit(resource, most(limit)).ok()?;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).ok()?;
    capabilities::drop_all();
    // Sets no_new_privs as well. If the kernel does not support it, symbols are not read.
    allow_only(&CALLS).ok()
}

/// More system calls: those for its socket.
const CALLS: [i64; 2] = [libc::SYS_recvmsg, libc::SYS_sendto];

/// Receives a request and its file; `None` when ecli has ended.
fn receive(socket: BorrowedFd) -> Option<(Request, Option<File>)> {
    let mut bytes = [0; 16 + 8 * MAX_NUMBERS];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let message = recvmsg(socket, into, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let files = control.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(files) => Some(files.collect::<Vec<OwnedFd>>()),
        _ => None,
    });
    let file = files.flatten().next().map(File::from);
    Some((Request::decode(&bytes[..message.bytes])?, file))
}

/// Reads the vDSO of this process, an ELF file in memory. It is the same in all processes.
fn own_vdso() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let mut memory = File::open("/proc/self/mem").ok()?;
    memory.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    memory.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Symbols read so far.
#[derive(Default)]
struct Symbols {
    vdso: Option<Elf<Vec<u8>>>,
    kernel: Option<Kallsyms>,
    files: FileCache<Option<Elf<File>>>,
    perf_maps: FileCache<PerfMap>,
}

impl Symbols {
    fn reply(&mut self, request: &Request, file: Option<File>) -> Vec<u8> {
        let numbers = &request.numbers;
        let each = |name: &dyn Fn(u64) -> Option<Name>| {
            encode_names(&numbers.iter().map(|number| name(*number)).collect::<Vec<_>>())
        };
        match (request.task, file) {
            (Task::Mappings, Some(file)) => encode_mappings(&mappings(file, numbers)),
            (Task::Kernel, file) => {
                if let Some(file) = file {
                    self.kernel = Some(Kallsyms::read(file));
                }
                each(&|address| self.kernel.as_ref()?.name(address))
            }
            (Task::File, Some(file)) => {
                let elf = self.files.get(file, Elf::read);
                each(&|offset| elf?.as_ref()?.name(offset))
            }
            (Task::PerfMap, Some(file)) => {
                let map = self.perf_maps.get(file, PerfMap::read);
                each(&|address| map?.name(address))
            }
            (Task::Vdso, _) => each(&|offset| self.vdso.as_ref()?.name(offset)),
            (_, None) => each(&|_| None),
        }
    }
}

/// A cache of what was read from files.
struct FileCache<T>(Vec<(Id, T)>);

impl<T> Default for FileCache<T> {
    fn default() -> FileCache<T> {
        FileCache(Vec::new())
    }
}

/// Identifies a file and its version.
#[derive(PartialEq, Eq)]
struct Id([i64; 7]);

impl Id {
    fn of(file: &File) -> Option<Id> {
        let stat = file.metadata().ok()?;
        let (changed, modified) = ((stat.ctime(), stat.ctime_nsec()), (stat.mtime(), stat.mtime_nsec()));
        let (device, number, size) = (stat.dev() as i64, stat.ino() as i64, stat.size() as i64);
        Some(Id([device, number, size, changed.0, changed.1, modified.0, modified.1]))
    }
}

impl<T> FileCache<T> {
    /// Returns what was read from the file, or reads it. The least recently used entries are removed.
    fn get(&mut self, file: File, read: impl FnOnce(File) -> T) -> Option<&T> {
        let id = Id::of(&file)?;
        let cached = match self.0.iter().position(|(known, _)| *known == id) {
            Some(at) => self.0.remove(at),
            None => {
                self.0.retain(|(known, _)| known.0[..2] != id.0[..2]);
                self.0.truncate(MAX_CACHED - 1);
                (id, read(file))
            }
        };
        self.0.insert(0, cached);
        self.0.first().map(|(_, cached)| cached)
    }
}
