//! Links, which attach a loaded program to a hook. Dropping a link detaches the program.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use libbpf_sys as b;

use super::object::{MapRef, Object, Open, ProgRef};
use super::result::{check, non_null};
use super::tc::TcFilter;
use crate::os::{self, Errno};

/// PERF_EVENT_IOC_SET_BPF: attaches a program to a perf event.
const SET_BPF: libc::c_ulong = 0x4004_2408;

/// One attachment.
pub struct Link {
    kind: Kind,
    /// The perf event of a tracepoint, which libbpf closes with the link.
    event: Option<RawFd>,
    /// The process that created it.
    owner: u32,
    /// The object that created it, if libbpf needs that for detaching and it may be closed before.
    object: Option<Arc<Open>>,
}

enum Kind {
    Libbpf(NonNull<b::bpf_link>),
    Kernel(OwnedFd),
    #[allow(dead_code, reason = "held for its drop")]
    Tc(TcFilter),
}

// SAFETY: libbpf does not tie a link to a thread; `Link` has one owner.
unsafe impl Send for Link {}

impl Link {
    fn new(kind: Kind) -> Link {
        Link { kind, event: None, owner: std::process::id(), object: None }
    }

    fn from_libbpf(raw: *mut b::bpf_link) -> os::Result<Link> {
        non_null(raw).map(|link| Link::new(Kind::Libbpf(link)))
    }

    /// A link that another process has created.
    pub fn given(fd: OwnedFd) -> Link {
        Link::new(Kind::Kernel(fd))
    }

    /// Keeps the object that has created this link open as long as the link.
    pub fn keep(&mut self, object: &Object) {
        self.object.get_or_insert_with(|| Arc::clone(&object.ptr));
    }

    /// The descriptor of the kernel's link, if this attachment has one.
    pub fn fd(&self) -> Option<RawFd> {
        match &self.kind {
            // SAFETY: a getter.
            // A link to a USDT probe consists of several links, and its own descriptor is 0.
            Kind::Libbpf(link) => Some(unsafe { b::bpf_link__fd(link.as_ptr()) }).filter(|&fd| fd > 0),
            Kind::Kernel(fd) => Some(fd.as_raw_fd()),
            Kind::Tc(_) => None,
        }
    }

    /// Fails with EACCES if `prog` reads beyond the record of the tracepoint, to which another program is attached. Changes nothing.
    pub fn admits(&self, prog: ProgRef<'_>) -> os::Result<()> {
        let (Some(event), prog) = (self.event, prog.raw_fd()?) else { return Ok(()) };
        // SAFETY: the event is open as long as the link. It has a program, and the kernel accepts no second one.
        match os::check(unsafe { libc::ioctl(event, SET_BPF, prog) }) {
            Err(Errno(libc::EEXIST)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes the link run `prog` instead of its program, in one step.
    pub fn update(&self, prog: RawFd) -> os::Result<()> {
        let link = self.fd().ok_or(Errno(libc::EOPNOTSUPP))?;
        // SAFETY: the kernel checks both descriptors; without options it compares nothing else.
        check(unsafe { b::bpf_link_update(link, prog, std::ptr::null()) }).map(drop)
    }

    /// Opens the output of an iterator. Each call starts a new iteration.
    pub fn open_iterator(&self) -> os::Result<OwnedFd> {
        let link = self.fd().ok_or(Errno(libc::EINVAL))?;
        // SAFETY: the kernel checks the descriptor and returns a new one, which nothing else knows.
        unsafe { check(b::bpf_iter_create(link)).map(|fd| OwnedFd::from_raw_fd(fd)) }
    }
}

impl Drop for Link {
    /// Detaches the program. In a child of fork, where the link belongs to the parent, it only closes the descriptor.
    fn drop(&mut self) {
        let fd = self.fd();
        if self.owner == std::process::id() {
            // A child of the host has copies of the descriptors until its exec, so closing the descriptor here would not detach
            // the link. Links without the operation (EOPNOTSUPP) detach with their last descriptor.
            // SAFETY: the kernel checks the descriptor.
            fd.map(|fd| unsafe { b::bpf_link_detach(fd) });
        } else if let Kind::Libbpf(link) = &self.kind {
            // SAFETY: a disconnected link keeps its descriptor open, and this function closes it.
            unsafe {
                b::bpf_link__disconnect(link.as_ptr());
                drop(fd.map(|fd| OwnedFd::from_raw_fd(fd)));
            }
        }
        if let Kind::Libbpf(link) = &self.kind {
            // SAFETY: the last use of the link.
            unsafe { b::bpf_link__destroy(link.as_ptr()) };
        }
    }
}

/// The target of a user-space probe.
pub struct UserProbe<'a> {
    /// Process; -1 for all.
    pub pid: i32,
    /// Executable or library. libbpf looks up names without a slash.
    pub path: &'a CStr,
    /// Function, if the probe is not at an offset in the file.
    pub func: Option<&'a CStr>,
    /// Offset in the function, or in the file.
    pub offset: u64,
    /// Whether it fires on return.
    pub on_return: bool,
}

/// A sampling perf event.
pub struct PerfEvent {
    /// PERF_TYPE_*.
    pub kind: u32,
    /// PERF_COUNT_* of that type.
    pub config: u64,
    /// Samples per second, or events between samples.
    pub sample: u64,
    /// Whether `sample` is a frequency.
    pub is_frequency: bool,
    /// Process; -1 for all.
    pub pid: i32,
    /// CPU.
    pub cpu: i32,
}

impl ProgRef<'_> {
    /// Attaches by section. Fails with EOPNOTSUPP if the section has no target.
    pub fn attach(self) -> os::Result<Link> {
        // SAFETY: a valid program; the result is checked.
        Link::from_libbpf(unsafe { b::bpf_program__attach(self.ptr()) })
    }

    /// Attaches an XDP program to an interface by a kernel link (Linux 5.9); `flags` are XDP_FLAGS_*.
    pub fn attach_xdp(self, ifindex: u32, flags: u32) -> os::Result<Link> {
        let sz = size_of::<b::bpf_link_create_opts>() as _;
        let opts = b::bpf_link_create_opts { sz, flags, ..Default::default() };
        let prog = self.raw_fd()?;
        // SAFETY: `opts` lives for the call; the descriptor is new, and nothing else knows it.
        unsafe {
            let fd = check(b::bpf_link_create(prog, ifindex as c_int, b::BPF_XDP, &opts))?;
            Ok(Link::new(Kind::Kernel(OwnedFd::from_raw_fd(fd))))
        }
    }

    /// Attaches to an interface's tcx hook (Linux 6.6).
    pub fn attach_tcx(self, ifindex: u32) -> os::Result<Link> {
        // SAFETY: a valid program; null options are the defaults.
        Link::from_libbpf(unsafe {
            b::bpf_program__attach_tcx(self.ptr(), ifindex as c_int, std::ptr::null())
        })
    }

    /// Attaches as a classic tc filter; `point` is BPF_TC_*.
    pub fn attach_tc(self, ifindex: u32, point: u32, handle: u32, priority: u32) -> os::Result<Link> {
        TcFilter::attach(self, ifindex, point, handle, priority).map(|filter| Link::new(Kind::Tc(filter)))
    }

    /// Attaches to a netkit device (Linux 6.7).
    pub fn attach_netkit(self, ifindex: u32) -> os::Result<Link> {
        // SAFETY: as for tcx.
        Link::from_libbpf(unsafe {
            b::bpf_program__attach_netkit(self.ptr(), ifindex as c_int, std::ptr::null())
        })
    }

    /// Attaches to a control group.
    pub fn attach_cgroup(self, cgroup: BorrowedFd<'_>) -> os::Result<Link> {
        // SAFETY: a valid program and descriptor.
        Link::from_libbpf(unsafe { b::bpf_program__attach_cgroup(self.ptr(), cgroup.as_raw_fd()) })
    }

    /// Attaches to a network namespace.
    pub fn attach_netns(self, netns: BorrowedFd<'_>) -> os::Result<Link> {
        // SAFETY: a valid program and descriptor.
        Link::from_libbpf(unsafe { b::bpf_program__attach_netns(self.ptr(), netns.as_raw_fd()) })
    }

    /// Attaches to a perf event. The link takes ownership of the event.
    pub fn attach_perf_event(self, event: OwnedFd) -> os::Result<Link> {
        // SAFETY: a valid program; on success libbpf closes the descriptor with the link, so this function does not close it.
        unsafe {
            let link =
                Link::from_libbpf(b::bpf_program__attach_perf_event(self.ptr(), event.as_fd().as_raw_fd()))?;
            std::mem::forget(event);
            Ok(link)
        }
    }

    /// Attaches to a kernel function, at an offset in it.
    pub fn attach_kprobe(self, func: &CStr, offset: u64, on_return: bool) -> os::Result<Link> {
        let opts = b::bpf_kprobe_opts {
            sz: size_of::<b::bpf_kprobe_opts>() as _,
            offset: offset as _,
            retprobe: on_return,
            ..Default::default()
        };
        // SAFETY: `func` and `opts` live for the call.
        Link::from_libbpf(unsafe { b::bpf_program__attach_kprobe_opts(self.ptr(), func.as_ptr(), &opts) })
    }

    /// Attaches to a tracepoint. `path` is its category and name.
    pub fn attach_tracepoint(self, path: &str, category: &CStr, name: &CStr) -> os::Result<Link> {
        if let Ok(link) = self.attach_to_tracepoint_event(path) {
            return Ok(link);
        }
        // After this failure libbpf attaches the program, because it prints the reason of its own failure.
        // SAFETY: the strings live for the call.
        Link::from_libbpf(unsafe {
            b::bpf_program__attach_tracepoint(self.ptr(), category.as_ptr(), name.as_ptr())
        })
    }

    fn attach_to_tracepoint_event(self, path: &str) -> os::Result<Link> {
        const PERF_TYPE_TRACEPOINT: u32 = 2;
        let read = |root: &&str| std::fs::read_to_string([root, "/events/", path, "/id"].concat()).ok();
        let id = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].iter().find_map(read);
        let config = id.and_then(|id| id.trim_ascii().parse().ok()).ok_or(Errno(libc::ENOENT))?;
        let (kind, pid, cpu) = (PERF_TYPE_TRACEPOINT, -1, 0);
        let event = perf_event_open(&PerfEvent { kind, config, sample: 0, is_frequency: false, pid, cpu })?;
        let fd = event.as_raw_fd();
        let mut link = self.attach_perf_event(event)?;
        link.event = Some(fd);
        Ok(link)
    }

    /// Attaches to a raw tracepoint.
    pub fn attach_raw_tracepoint(self, name: &CStr) -> os::Result<Link> {
        // SAFETY: the string lives for the call.
        Link::from_libbpf(unsafe { b::bpf_program__attach_raw_tracepoint(self.ptr(), name.as_ptr()) })
    }

    /// Attaches to a function of user-space code.
    pub fn attach_uprobe(self, probe: &UserProbe<'_>) -> os::Result<Link> {
        let opts = b::bpf_uprobe_opts {
            sz: size_of::<b::bpf_uprobe_opts>() as _,
            retprobe: probe.on_return,
            func_name: probe.func.map_or(std::ptr::null(), CStr::as_ptr),
            ..Default::default()
        };
        // SAFETY: the strings and `opts` live for the call.
        Link::from_libbpf(unsafe {
            b::bpf_program__attach_uprobe_opts(
                self.ptr(),
                probe.pid,
                probe.path.as_ptr(),
                probe.offset as _,
                &opts,
            )
        })
    }

    /// Attaches to a USDT probe.
    pub fn attach_usdt(self, pid: i32, path: &CStr, provider: &CStr, name: &CStr) -> os::Result<Link> {
        let (path, provider, name) = (path.as_ptr(), provider.as_ptr(), name.as_ptr());
        // SAFETY: the strings live for the call; null options are the defaults.
        Link::from_libbpf(unsafe {
            b::bpf_program__attach_usdt(self.ptr(), pid, path, provider, name, std::ptr::null())
        })
    }
}

impl MapRef<'_> {
    /// Registers a struct_ops map.
    pub fn attach_struct_ops(self) -> os::Result<Link> {
        // SAFETY: a valid map; libbpf refuses other types.
        Link::from_libbpf(unsafe { b::bpf_map__attach_struct_ops(self.ptr()) })
    }
}

/// Opens a sampling perf event.
pub fn perf_event_open(event: &PerfEvent) -> os::Result<OwnedFd> {
    let mut attr = b::perf_event_attr {
        size: size_of::<b::perf_event_attr>() as u32,
        type_: event.kind,
        config: event.config,
        ..Default::default()
    };
    // Frequency and period share one field; a bit specifies which it is.
    attr.__bindgen_anon_1.sample_period = event.sample;
    attr.set_freq(u64::from(event.is_frequency));
    super::perf::perf_event_open(&attr, event.pid, event.cpu)
}
