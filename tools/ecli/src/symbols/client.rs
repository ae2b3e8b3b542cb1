//! Starts the process that reads symbols and sends requests to it, one at a time. The process is killed if it takes too long
//! or sends an invalid reply, and started again after a pause.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair,
};

use super::child::ARGUMENT;
use super::protocol::{self, MAX_MESSAGE, Mapping, Name, Request, Task};
use crate::error::say;

/// Time limit of a request for symbols of the kernel.
pub const KERNEL_LIMIT: Duration = Duration::from_secs(10);
/// Time limit of a request for a file of a process.
pub const FILE_LIMIT: Duration = Duration::from_secs(2);

/// The pause after the first failure, and the longest one. Each failure doubles it.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// The pause is reset after this time without a failure.
const RESET_AFTER: Duration = Duration::from_secs(120);

/// Limit on killed processes that have not ended yet, because the kernel blocks them.
const MAX_ENDING: usize = 4;

/// Time limit of a request while the run is stopping, and how often the wait checks for that.
const STOPPING_LIMIT: Duration = Duration::from_secs(1);
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Whether the run is stopping.
static IS_STOPPING: AtomicBool = AtomicBool::new(false);

/// Shortens the time limit of the current request. After a failure, no further request is sent.
pub fn stop() {
    IS_STOPPING.store(true, Relaxed);
}

/// The client of the process.
#[derive(Default)]
pub struct Reader {
    running: Option<Running>,
    /// Killed processes that may not have ended yet.
    ending: Vec<Child>,
    failed: Option<Failed>,
}

/// The last failure.
struct Failed {
    at: Instant,
    pause: Duration,
}

struct Running {
    process: Child,
    socket: OwnedFd,
    has_kernel: bool,
}

impl Reader {
    /// Whether requests are possible now: not in a pause.
    pub fn is_ready(&self) -> bool {
        self.failed.as_ref().is_none_or(|failed| failed.at.elapsed() >= failed.pause)
    }

    /// Whether it has the kernel's symbols.
    pub fn has_kernel(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.has_kernel)
    }

    /// The mappings of addresses, from the maps of a process.
    pub fn mappings(&mut self, addresses: &[u64], maps: BorrowedFd) -> Option<Vec<Option<Mapping>>> {
        self.request(Task::Mappings, addresses, Some(maps), FILE_LIMIT, protocol::decode_mappings)
    }

    /// The names of addresses, or of offsets in a file.
    pub fn names(
        &mut self,
        task: Task,
        numbers: &[u64],
        file: Option<BorrowedFd>,
        limit: Duration,
    ) -> Option<Vec<Option<Name>>> {
        let names = self.request(task, numbers, file, limit, protocol::decode_names);
        if let (Task::Kernel, Some(_), Some(running)) = (task, &names, &mut self.running) {
            running.has_kernel = true;
        }
        names
    }

    fn request<T>(
        &mut self,
        task: Task,
        numbers: &[u64],
        file: Option<BorrowedFd>,
        limit: Duration,
        decode: fn(&[u8], usize) -> Option<T>,
    ) -> Option<T> {
        if numbers.is_empty() || !self.is_ready() {
            return None;
        }
        self.start();
        let request = Request { task, numbers: numbers.to_vec() };
        let reply = self.running.as_ref().and_then(|running| running.send(&request, file, limit));
        let decoded = reply.and_then(|reply| decode(&reply, numbers.len()));
        if decoded.is_none() {
            self.fail();
        }
        decoded
    }

    fn start(&mut self) {
        self.ending.retain_mut(|process| matches!(process.try_wait(), Ok(None)));
        if self.running.is_none() && self.ending.len() < MAX_ENDING {
            self.running = Running::start();
        }
    }

    fn fail(&mut self) {
        if let Some(running) = self.running.take() {
            self.ending.extend(running.end());
        }
        if IS_STOPPING.load(Relaxed) {
            self.failed = Some(Failed { at: Instant::now(), pause: Duration::MAX });
            return;
        }
        let earlier = self.failed.as_ref().filter(|failed| failed.at.elapsed() < RESET_AFTER + failed.pause);
        let pause = match earlier {
            Some(failed) => (2 * failed.pause).min(LONGEST_PAUSE),
            None => PAUSE,
        };
        if self.failed.is_none() {
            say("looking up function names timed out; some addresses are shown as numbers");
        }
        self.failed = Some(Failed { at: Instant::now(), pause });
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ending.extend(self.running.take().and_then(Running::end));
    }
}

impl Running {
    fn start() -> Option<Running> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).ok()?;
        // The process has a process group of its own, so that Ctrl-C does not signal it and it can look up remaining names.
        let process = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Running { process, socket, has_kernel: false })
    }

    /// Sends a request and waits for the reply.
    fn send(&self, request: &Request, file: Option<BorrowedFd>, limit: Duration) -> Option<Vec<u8>> {
        let mut deadline = Instant::now() + limit;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files: Vec<BorrowedFd> = file.into_iter().collect();
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return None;
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.socket, &[IoSlice::new(&request.encode())], &mut control, flags).ok()?;
        let mut is_stopping = false;
        loop {
            if !is_stopping && IS_STOPPING.load(Relaxed) {
                is_stopping = true;
                deadline = deadline.min(Instant::now() + STOPPING_LIMIT);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let left = Timespec::try_from(left.min(CHECK_INTERVAL)).ok()?;
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(_) => return None,
            }
        }
        let mut reply = vec![0; MAX_MESSAGE];
        // Descriptors in the reply are not received.
        let (len, whole) = recv(&self.socket, &mut *reply, RecvFlags::DONTWAIT | RecvFlags::TRUNC).ok()?;
        if len == 0 || whole > MAX_MESSAGE {
            return None;
        }
        reply.truncate(len);
        Some(reply)
    }

    /// Kills the process. Returns it if it has not ended yet.
    fn end(mut self) -> Option<Child> {
        let _ = self.process.kill();
        match self.process.try_wait() {
            Ok(None) => Some(self.process),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use rustix::net::send;

    use super::*;

    /// The result of a request to which another program than ecli replies.
    fn answered_by(answer: impl FnOnce(OwnedFd) + Send + 'static) -> (Option<Vec<Option<Name>>>, Reader) {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("sockets");
        let process = Command::new("sleep").arg("600").spawn().expect("sleep starts");
        let running = Some(Running { process, socket, has_kernel: false });
        let mut reader = Reader { running, ending: Vec::new(), failed: None };
        let thread = std::thread::spawn(move || {
            recv(&theirs, &mut [0; 64], RecvFlags::empty()).expect("a question");
            answer(theirs);
        });
        let names = reader.names(Task::File, &[1, 2], None, Duration::from_millis(500));
        thread.join().expect("no panic");
        (names, reader)
    }

    fn name(text: &str) -> Option<Name> {
        Some(Name { text: text.into(), offset: 3 })
    }

    #[test]
    fn an_answer_is_taken_and_descriptors_with_it_are_not() {
        let (mut pipe, end) = std::io::pipe().expect("a pipe");
        let (names, reader) = answered_by(move |socket| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let files = [end.as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
            let answer = protocol::encode_names(&[name("a"), None]);
            sendmsg(socket, &[IoSlice::new(&answer)], &mut control, SendFlags::empty()).expect("sent");
        });
        assert_eq!(names, Some(vec![name("a"), None]));
        assert!(reader.is_ready() && reader.running.is_some());
        // A child that another test is starting has a copy of the pipe until it runs its program.
        let mut closed = [PollFd::new(&pipe, PollFlags::IN)];
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut closed, Some(&limit)).expect("poll"), 1, "a descriptor of the reply was taken");
        assert_eq!(pipe.read(&mut [0]).expect("closed by all"), 0);
    }

    #[test]
    fn a_process_without_a_valid_reply_is_killed_and_paused() {
        let sent = |bytes: Vec<u8>| {
            move |socket: OwnedFd| {
                // A request that is too long is not even sent.
                let _ = send(socket, &bytes, SendFlags::NOSIGNAL);
            }
        };
        let three = protocol::encode_names(&[name("a"), name("b"), name("c")]);
        let long = [0; 2 * MAX_MESSAGE];
        let wrong =
            [vec![], vec![7], three[..3].to_vec(), three, long[..MAX_MESSAGE + 1].to_vec(), long.to_vec()];
        let mut ended = Vec::new();
        for bytes in wrong {
            let len = bytes.len();
            let (names, reader) = answered_by(sent(bytes));
            assert_eq!(names, None, "{len} bytes");
            ended.push(reader);
        }
        ended.push(answered_by(drop).1);
        // Late, with the socket still open.
        ended.push(answered_by(|_socket| std::thread::sleep(Duration::from_millis(700))).1);
        for mut reader in ended {
            assert!(!reader.is_ready() && reader.running.is_none());
            assert_eq!(reader.names(Task::Vdso, &[1], None, Duration::from_secs(600)), None, "not asked");
            reader.ending.iter_mut().for_each(|process| drop(process.wait()));
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut reader = Reader::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            reader.fail();
            pauses.push(reader.failed.as_ref().map_or(0, |failed| failed.pause.as_secs()));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
    }
}
