//! Safe wrappers of the few system calls that the standard library lacks: epoll, eventfd, timerfd, local time.
#![allow(unsafe_code, reason = "the system calls themselves; nothing outside this file sees a raw pointer")]

use std::ffi::{CStr, CString, NulError, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::time::{Duration, Instant};
use std::{fmt, io};

/// Why a system call failed, as errno(3) numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a system call gives.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

impl Errno {
    /// That of the call before.
    pub fn last() -> Errno {
        io::Error::last_os_error().into()
    }
}

impl From<io::Error> for Errno {
    fn from(e: io::Error) -> Errno {
        Errno(e.raw_os_error().unwrap_or(libc::EINVAL))
    }
}

/// A text with a NUL is no name of anything.
impl From<NulError> for Errno {
    fn from(_: NulError) -> Errno {
        Errno(libc::EINVAL)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // Without the number that std adds: a host asks for it by eunomia_errsys.
        let text = io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

/// The result of a call that answers -1 and sets errno.
pub fn check(ret: i32) -> Result<i32> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}

/// Owns a fresh descriptor. A host may have closed 0 to 2; a descriptor of ours must not become its stdout.
fn own(ret: i32) -> Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: the call that made `fd` has just succeeded and nobody else knows the number.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if fd.as_raw_fd() > 2 { Ok(fd) } else { duplicate(fd.as_raw_fd()) }
}

/// A second, close-on-exec descriptor for the same file, above the standard three.
pub fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl takes plain numbers; a bad descriptor is answered with EBADF.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: as in `own`.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whether `count` more descriptors can be had at this moment; EMFILE or ENFILE if not.
pub fn has_room(count: usize) -> Result<()> {
    let first = EventFd::new()?;
    let more: Result<Vec<OwnedFd>> = (1..count).map(|_| duplicate(first.fd())).collect();
    more.map(drop)
}

/// Descriptors that keep the numbers 0 to 2 taken while they live.
pub struct LowNumbers(#[allow(dead_code, reason = "held for their drop")] Vec<OwnedFd>);

/// Takes the standard three numbers as far as the host has closed them: what others (libbpf) open meanwhile must not
/// become its stdin, stdout or stderr.
pub fn take_low_numbers() -> Result<LowNumbers> {
    let mut taken = Vec::new();
    loop {
        // SAFETY: no pointers; the descriptor is new and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC))?) };
        if fd.as_raw_fd() > 2 {
            return Ok(LowNumbers(taken));
        }
        taken.push(fd);
    }
}

/// A set of descriptors to wait for, each with a token.
pub struct Epoll(OwnedFd);

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Result<Epoll> {
        // SAFETY: no pointers.
        own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Epoll)
    }

    /// Adds `fd`, readable, level-triggered.
    pub fn add(&self, fd: RawFd, token: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` lives for the call.
        check(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
    }

    /// Takes `fd` out; one that is not in it is no error.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: EPOLL_CTL_DEL ignores the event pointer.
        unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits up to `timeout_ms` (-1: for ever) and stores the tokens of what is ready. EINTR is an error like any other.
    pub fn wait(&self, tokens: &mut [u64; 16], timeout_ms: i32) -> Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        // SAFETY: the array holds the 16 events the kernel is told of.
        let n = check(unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), 16, timeout_ms) })? as usize;
        for (token, event) in tokens.iter_mut().zip(&events[..n]) {
            *token = event.u64;
        }
        Ok(n)
    }

    /// The descriptor, for nesting and for the host.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A descriptor that is readable between `signal` and `clear`.
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A cleared one.
    pub fn new() -> Result<EventFd> {
        // SAFETY: no pointers.
        own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(EventFd)
    }

    /// Makes it readable. Async-signal-safe: one `write`, errno kept.
    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: errno is thread-local and always there; `one` holds the 8 bytes that are written.
        unsafe {
            let errno = libc::__errno_location();
            let saved = *errno;
            libc::write(self.fd(), one.as_ptr().cast(), one.len());
            *errno = saved;
        }
    }

    /// Makes it unreadable; whether it was readable.
    pub fn clear(&self) -> bool {
        drain(self.fd())
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A descriptor that becomes readable at a time.
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// A disarmed timer on the monotonic clock.
    pub fn new() -> Result<TimerFd> {
        // SAFETY: no pointers.
        own(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })
            .map(TimerFd)
    }

    /// Arms it to fire once after `delay`.
    pub fn arm(&self, delay: Duration) -> Result<()> {
        // Zero would disarm it: what is due now fires after a nanosecond.
        self.set(delay.max(Duration::from_nanos(1)), Duration::ZERO)
    }

    /// Arms it to fire after every `interval`; zero disarms it.
    pub fn arm_every(&self, interval: Duration) -> Result<()> {
        self.set(interval, interval)
    }

    fn set(&self, first: Duration, then: Duration) -> Result<()> {
        let time =
            |of: Duration| libc::timespec { tv_sec: of.as_secs() as _, tv_nsec: of.subsec_nanos() as _ };
        let spec = libc::itimerspec { it_interval: time(then), it_value: time(first) };
        // SAFETY: `spec` lives for the call; the old value is not asked for.
        check(unsafe { libc::timerfd_settime(self.fd(), 0, &spec, std::ptr::null_mut()) }).map(drop)
    }

    /// Forgets that it fired.
    pub fn clear(&self) {
        drain(self.fd());
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads the counter of an eventfd or timerfd away; whether there was one.
fn drain(fd: RawFd) -> bool {
    let mut counter = [0u8; 8];
    // SAFETY: `counter` has room for the 8 bytes that are asked for.
    unsafe { libc::read(fd, counter.as_mut_ptr().cast(), counter.len()) == 8 }
}

/// The local time as `HH:MM:SS`; the time zone is the C library's (TZ, /etc/localtime).
pub fn local_time() -> [u8; 8] {
    // SAFETY: both calls only write to the variables given; `tm` is plain numbers.
    let tm = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&now, &mut tm);
        tm
    };
    let digits = |n: i32| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
    let ([h1, h2], [m1, m2], [s1, s2]) = (digits(tm.tm_hour), digits(tm.tm_min), digits(tm.tm_sec));
    [h1, h2, b':', m1, m2, b':', s1, s2]
}

/// The time since 1970, in nanoseconds, at which CLOCK_MONOTONIC was zero. Suspending moves it, for that clock stands still.
pub fn boot_time() -> i64 {
    let time = |id| clock(id).unwrap_or(0) as i64;
    time(libc::CLOCK_REALTIME).wrapping_sub(time(libc::CLOCK_MONOTONIC))
}

/// Where `part` begins in `whole`, in a time that grows with the sum of the lengths, not with their product.
pub fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    // SAFETY: both are as long as told; what is found lies in `whole`.
    unsafe {
        let found = libc::memmem(whole.as_ptr().cast(), whole.len(), part.as_ptr().cast(), part.len());
        (!found.is_null()).then(|| found.cast::<u8>().offset_from(whole.as_ptr()) as usize)
    }
}

/// Waits until one of the descriptors is readable and says which; `None` after the time, for ever without one.
pub fn wait_readable(fds: &[RawFd], time: Option<Duration>) -> Result<Option<usize>> {
    let mut polled: Vec<_> = fds.iter().map(|&fd| polled(fd, libc::POLLIN)).collect();
    wait(&mut polled, time)
}

fn polled(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// The first of those that are ready; signals do not end the wait.
fn wait(polled: &mut [libc::pollfd], time: Option<Duration>) -> Result<Option<usize>> {
    let deadline = time.map(|time| Instant::now() + time);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let ms = left.map_or(-1, |left| left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32);
        // SAFETY: the array lives for the call and has that length.
        match check(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, ms) }) {
            Ok(0) if ms == i32::MAX => {}
            Ok(_) => return Ok(polled.iter().position(|fd| fd.revents != 0)),
            Err(e) if e.0 == libc::EINTR => {}
            Err(e) => return Err(e),
        }
    }
}

/// Reads what there is of a descriptor that is not ours, past no buffer: what is left stays for whoever waits for it.
pub fn read(fd: RawFd, into: &mut [u8]) -> Result<usize> {
    // SAFETY: `into` has the length that is told.
    let got = unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) };
    usize::try_from(got).map_err(|_| Errno::last())
}

/// Reads a file, and one that is larger than `most` bytes to somewhere beyond them. The length that a file tells is not
/// to be relied on: a device or a pipe tells none.
pub fn read_file(path: &str, most: usize) -> Result<Vec<u8>> {
    const PIECE: usize = 64 << 10;
    let file = std::fs::File::open(path)?;
    let mut data = Vec::new();
    while data.len() <= most {
        let len = data.len();
        data.try_reserve(PIECE).map_err(|_| Errno(libc::ENOMEM))?;
        data.resize(len + PIECE, 0);
        let read = match read(file.as_raw_fd(), &mut data[len..]) {
            Err(Errno(libc::EINTR)) => None,
            read => Some(read?),
        };
        data.truncate(len + read.unwrap_or(0));
        if read == Some(0) {
            break;
        }
    }
    Ok(data)
}

/// A file of the kernel's that never changes, in memory for a while. Where the kernel does not map it (before Linux 6.16
/// the BTF in sysfs), it is read; not into the heap, which would keep what it once had.
pub struct KernelFile {
    start: NonNull<u8>,
    len: usize,
}

impl KernelFile {
    /// Opens it.
    pub fn open(path: &str) -> Result<KernelFile> {
        let file = std::fs::File::open(path)?;
        let len = file.metadata()?.len() as usize;
        if let Ok(mapped) = KernelFile::map(len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd()) {
            return Ok(mapped);
        }
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let copy = KernelFile::map(len, access, kind, -1)?;
        // SAFETY: new and writable memory of that length, to which nothing else refers yet.
        let into = unsafe { std::slice::from_raw_parts_mut(copy.start.as_ptr(), len) };
        let mut filled = 0;
        while filled < len {
            match read(file.as_raw_fd(), &mut into[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        Ok(copy)
    }

    fn map(len: usize, access: i32, kind: i32, fd: RawFd) -> Result<KernelFile> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(start.cast()).map(|start| KernelFile { start, len }).ok_or(Errno(libc::ENOMEM))
    }
}

impl std::ops::Deref for KernelFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped until drop; the kernel does not change it, nor does anyone here.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for KernelFile {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which nothing refers any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A file that is in memory only and goes with its descriptor.
pub fn memory_file(content: &[u8]) -> Result<std::fs::File> {
    // SAFETY: a literal.
    let file =
        std::fs::File::from(own(unsafe { libc::memfd_create(c"eunomia".as_ptr(), libc::MFD_CLOEXEC) })?);
    // SAFETY: `content` is as long as told.
    let written = unsafe { libc::write(file.as_raw_fd(), content.as_ptr().cast(), content.len()) };
    // Memory takes all at once, or there is none.
    if written == content.len() as isize { Ok(file) } else { Err(Errno(libc::ENOMEM)) }
}

/// The names in a folder; none if it cannot be read. `std::fs::read_dir` would make the library 6 kB larger.
pub fn names(folder: &str) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(folder) = CString::new(folder) else { return names };
    // SAFETY: a C string; each entry, and the name in it, lives until the next one is read, and the folder is closed once.
    unsafe {
        let stream = libc::opendir(folder.as_ptr());
        if stream.is_null() {
            return names;
        }
        while let Some(entry) = libc::readdir(stream).as_ref() {
            names.push(CStr::from_ptr(entry.d_name.as_ptr()).to_string_lossy().into_owned());
        }
        libc::closedir(stream);
    }
    names
}

/// A short text that the system keeps in a file.
pub fn read_text(path: &str) -> Result<String> {
    const MOST: usize = 64 << 10;
    String::from_utf8(read_file(path, MOST)?).map_err(|_| Errno(libc::EINVAL))
}

/// Writes all of `bytes` to a descriptor that is not ours, or what there is room for until `stop` is readable: a pipe
/// may be full for ever.
pub fn write(fd: RawFd, mut bytes: &[u8], stop: RawFd) -> Result<()> {
    while !bytes.is_empty() {
        let mut both = [polled(stop, libc::POLLIN), polled(fd, libc::POLLOUT)];
        if wait(&mut both, None)? == Some(0) {
            return Err(Errno(libc::ECANCELED));
        }
        // What a pipe with room takes without waiting.
        let piece = &bytes[..bytes.len().min(libc::PIPE_BUF)];
        // SAFETY: the piece has the length that is told.
        let written = unsafe { libc::write(fd, piece.as_ptr().cast(), piece.len()) };
        match usize::try_from(written) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) => match Errno::last() {
                Errno(libc::EINTR | libc::EAGAIN) => {}
                e => return Err(e),
            },
        }
    }
    Ok(())
}

/// Whether so many bytes of memory can be had at this moment. Asks the kernel: `malloc` would take what comes and goes
/// for a habit, and keep such pieces from then on.
pub fn has_memory(len: usize) -> bool {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place of the kernel's choice, which nobody uses before it goes.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), len.max(1), access, kind, -1, 0);
        memory != libc::MAP_FAILED && libc::munmap(memory, len.max(1)) == 0
    }
}

/// Bytes of memory that can be had without swapping (MemAvailable of proc_meminfo(5)); all ones if nobody says.
pub fn available_memory() -> u64 {
    let text = read_text("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(u64::MAX, |kib: u64| kib << 10)
}

/// Bytes of a page of memory.
pub fn page_size() -> u64 {
    // SAFETY: a plain number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// A clock of clock_gettime(2), in nanoseconds.
pub fn clock(id: libc::clockid_t) -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives for the call; an unknown clock is answered with EINVAL.
    check(unsafe { libc::clock_gettime(id, &mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Random bytes from the kernel.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    // In pieces that the kernel gives whole.
    for piece in bytes.chunks_mut(256) {
        // SAFETY: the piece has the length that is told.
        let got = unsafe { libc::getrandom(piece.as_mut_ptr().cast(), piece.len(), 0) };
        check(got as i32)?;
    }
    Ok(())
}

/// Opens a file at a path that cannot lead out of `folder`, not even by a link (Linux 5.6), with these flags of open(2).
pub fn open_beneath(folder: RawFd, path: &std::path::Path, flags: i32) -> Result<OwnedFd> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: plain numbers, of which all zero is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: path and struct live for the call, and the struct has that size.
    let fd =
        unsafe { libc::syscall(libc::SYS_openat2, folder, path.as_ptr(), &how, size_of::<libc::open_how>()) };
    own(fd as i32)
}

/// Entries of a folder from the place `from` on (0: the first one), as getdents64(2) writes them; how many bytes.
pub fn read_folder(fd: RawFd, from: u64, into: &mut [u8]) -> Result<usize> {
    // SAFETY: plain numbers, which the kernel checks; it writes to `into`, which has that length.
    let got = unsafe {
        if libc::lseek(fd, from as i64, libc::SEEK_SET) < 0 {
            return Err(Errno::last());
        }
        libc::syscall(libc::SYS_getdents64, fd, into.as_mut_ptr(), into.len())
    };
    check(got as i32).map(|got| got as usize)
}

/// Release and machine of the running kernel, as `uname -r` and `uname -m` print them.
pub fn kernel() -> (String, String) {
    // SAFETY: uname fills the struct with NUL-terminated texts and cannot fail on a valid pointer.
    unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&mut names);
        let text =
            |field: &[libc::c_char]| std::ffi::CStr::from_ptr(field.as_ptr()).to_string_lossy().into_owned();
        (text(&names.release), text(&names.machine))
    }
}

/// The effective capabilities of this thread, one bit each as capabilities(7) numbers them.
pub fn capabilities() -> u64 {
    /// _LINUX_CAPABILITY_VERSION_3, the thread itself.
    const HEAD: [u32; 2] = [0x2008_0522, 0];
    // Effective, permitted and inheritable, first the low halves, then the high ones.
    let mut sets = [0_u32; 6];
    // SAFETY: both arrays have the layout and length of that version.
    let ret = unsafe { libc::syscall(libc::SYS_capget, HEAD.as_ptr(), sets.as_mut_ptr()) };
    if ret == 0 { u64::from(sets[3]) << 32 | u64::from(sets[0]) } else { u64::MAX }
}

/// Whether this process is in the initial user namespace, the only one whose capabilities count for BPF. Where /proc does not
/// tell, it is.
pub fn in_initial_user_namespace() -> bool {
    /// PROC_USER_INIT_INO: the inode of that namespace on every kernel.
    const INITIAL: u64 = 0xefff_fffd;
    std::fs::metadata("/proc/self/ns/user").map_or(true, |namespace| namespace.ino() == INITIAL)
}

/// The index of a network interface.
pub fn interface_index(name: &str) -> Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: `name` is NUL-terminated.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::last()),
        index => Ok(index),
    }
}

/// The name of the network interface of that index; ENXIO or ENODEV if there is none.
pub fn interface_name(index: u32) -> Result<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: `name` has the length that the call asks for.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        return Err(Errno::last());
    }
    // SAFETY: the call has written a name with a NUL behind it.
    Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// A thread of ours. It takes no signals: a host's handlers keep running on the host's threads. Dropping this waits for
/// its end. (One of std's brings names, results and guard pages along, 15 kB of the library.)
pub struct Thread {
    thread: libc::pthread_t,
    /// The process it is of: a child of fork has only the memory of it.
    owner: u32,
}

type Body = Box<dyn FnOnce() + Send>;

impl Thread {
    /// Starts `body` under a name of at most 15 bytes.
    pub fn spawn(name: &CStr, body: Body) -> Result<Thread> {
        let body = Box::into_raw(Box::new(body));
        // SAFETY: the sets and the thread live for the calls; a new thread inherits the mask of its maker, which gets
        // its own back. `run_body` takes `body`, unless there is no thread: then it is taken back here.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            let mut thread: libc::pthread_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
            let ret = libc::pthread_create(&mut thread, std::ptr::null(), run_body, body.cast());
            libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
            if ret != 0 {
                drop(Box::from_raw(body));
                return Err(Errno(ret));
            }
            libc::pthread_setname_np(thread, name.as_ptr());
            Ok(Thread { thread, owner: std::process::id() })
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // SAFETY: joined here only, and nothing detaches it.
            unsafe { libc::pthread_join(self.thread, std::ptr::null_mut()) };
        }
    }
}

extern "C" fn run_body(body: *mut c_void) -> *mut c_void {
    // SAFETY: `Thread::spawn` gave the box away.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    // What a panic has to say is printed by now; who waits for this thread finds its work undone.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    std::ptr::null_mut()
}
