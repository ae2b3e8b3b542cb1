//! Actions that make programs run.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{fs, thread};

use eunomia::{Flow, Vm};

/// Something that happens.
#[derive(Clone, Copy)]
pub enum Trigger {
    /// read(2) of a file.
    Read,
    /// getpgid(2).
    Getpgid,
    /// stat(2).
    Stat,
    /// This test's own static probe.
    Beat,
    /// A CPU that works.
    Busy,
    /// A datagram over the loopback interface.
    Datagram,
    /// A connection over TCP there.
    Connect,
    /// A connection over a socket of the file system.
    Unix,
    /// getsockopt(2).
    Option,
    /// A value below /proc/sys.
    Sysctl,
    /// The opening of a device.
    Null,
    /// The run of an iterator.
    Iterate,
    /// A network device sends packets by itself.
    Device,
}

impl Trigger {
    /// Triggers it once.
    pub fn pull(self, vm: &Vm) {
        match self {
            Trigger::Read => drop(fs::read("/proc/self/stat")),
            // SAFETY: plain numbers.
            Trigger::Getpgid => drop(unsafe { libc::getpgid(0) }),
            Trigger::Stat => drop(fs::metadata("/proc/self/stat")),
            Trigger::Beat => crate::support::probe::beat(0),
            Trigger::Busy => {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(20) {}
            }
            Trigger::Datagram => datagram(),
            Trigger::Connect => drop(connect()),
            Trigger::Unix => {
                let path = std::env::temp_dir().join(format!("eunomia-matrix-{}", std::process::id()));
                let _listener = UnixListener::bind(&path).unwrap();
                let connected = UnixStream::connect(&path);
                fs::remove_file(&path).unwrap();
                connected.unwrap();
            }
            Trigger::Option => {
                let (_, accepted) = connect();
                let (mut value, mut len) = (0i32, 4);
                let (level, name) = (libc::SOL_SOCKET, libc::SO_KEEPALIVE);
                let into = (&raw mut value).cast();
                // SAFETY: `value` has the given length.
                let done = unsafe { libc::getsockopt(accepted.as_raw_fd(), level, name, into, &mut len) };
                assert_eq!(done, 0);
            }
            Trigger::Sysctl => drop(fs::read("/proc/sys/kernel/ostype")),
            Trigger::Null => drop(fs::File::open("/dev/null")),
            Trigger::Iterate => {
                let mut lines = 0;
                vm.iter_each("iter", |_: &eunomia::Event| {
                    lines += 1;
                    Flow::Continue
                })
                .unwrap();
                assert!(lines > 0, "the iterator saw no task");
            }
            Trigger::Device => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn datagram() {
    let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    from.send_to(b"hello", to.local_addr().unwrap()).unwrap();
    to.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = to.recv_from(&mut [0; 16]);
}

fn connect() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.peer_addr().unwrap();
    (stream, listener.accept().unwrap().0)
}

/// The path of the C library of this process.
pub fn libc_path() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with("/libc.so.6")).expect("tests are linked to glibc");
    line[line.find('/').unwrap()..].to_owned()
}

/// The mount point of cgroup version 2.
pub fn cgroup() -> String {
    let mut mounts = String::new();
    fs::File::open("/proc/mounts").unwrap().read_to_string(&mut mounts).unwrap();
    let mut found = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    found.find(|mount| mount[2] == "cgroup2").expect("cgroup2 is mounted")[1].to_owned()
}
