//! Links: what ties a loaded program to a hook. Letting go of a link (drop) detaches.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use libbpf_sys as b;

use super::object::{MapRef, ProgRef};
use super::result::{check, non_null};
use super::tc::TcFilter;
use crate::os::{self, Errno};

/// One attachment.
pub struct Link {
    kind: Kind,
    /// The process that made it.
    owner: u32,
}

enum Kind {
    Libbpf(NonNull<b::bpf_link>),
    Kernel(OwnedFd),
    #[allow(dead_code, reason = "held for its drop")]
    Tc(TcFilter),
}

// SAFETY: libbpf ties a link to no thread; `Link` has one owner.
unsafe impl Send for Link {}

impl Link {
    fn of(kind: Kind) -> Link {
        Link { kind, owner: std::process::id() }
    }

    fn made(raw: *mut b::bpf_link) -> os::Result<Link> {
        non_null(raw).map(|link| Link::of(Kind::Libbpf(link)))
    }

    /// The kernel's link, if this attachment is one.
    pub fn fd(&self) -> Option<RawFd> {
        match &self.kind {
            // SAFETY: a getter.
            Kind::Libbpf(link) => Some(unsafe { b::bpf_link__fd(link.as_ptr()) }).filter(|&fd| fd >= 0),
            Kind::Kernel(fd) => Some(fd.as_raw_fd()),
            Kind::Tc(_) => None,
        }
    }

    /// Opens the output of an iterator; each call starts it anew.
    pub fn open_iterator(&self) -> os::Result<OwnedFd> {
        let link = self.fd().ok_or(Errno(libc::EINVAL))?;
        // SAFETY: the kernel checks the descriptor and makes a new one for us alone.
        unsafe { check(b::bpf_iter_create(link)).map(|fd| OwnedFd::from_raw_fd(fd)) }
    }
}

impl Drop for Link {
    /// Detaches; in a child of fork, where the link is still the parent's, only lets go of the descriptor.
    fn drop(&mut self) {
        let fd = self.fd();
        if self.owner == std::process::id() {
            // A child of the host that has not come to its exec yet holds our descriptors too, so that closing ours
            // would not detach; links that cannot be told (EOPNOTSUPP) detach with their last descriptor.
            // SAFETY: the kernel checks the descriptor.
            fd.map(|fd| unsafe { b::bpf_link_detach(fd) });
        } else if let Kind::Libbpf(link) = &self.kind {
            // SAFETY: a disconnected link keeps its descriptor, which is then nobody's but ours.
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

/// Where a user-space probe sits.
pub struct UserProbe<'a> {
    /// Process, -1 for all.
    pub pid: i32,
    /// Executable or library; a bare library name is looked up by libbpf.
    pub path: &'a CStr,
    /// Function.
    pub func: Option<&'a CStr>,
    /// Bytes from the function's start, or from that of the file.
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
    /// Samples a second, or events between samples.
    pub sample: u64,
    /// Whether `sample` is a frequency.
    pub is_frequency: bool,
    /// Process, -1 for all.
    pub pid: i32,
    /// CPU.
    pub cpu: i32,
}

impl ProgRef<'_> {
    /// Attaches by section, as libbpf does; EOPNOTSUPP where the section does not say where.
    pub fn attach(self) -> os::Result<Link> {
        // SAFETY: a valid program; the result is checked.
        Link::made(unsafe { b::bpf_program__attach(self.ptr()) })
    }

    /// Attaches an XDP program to an interface by a kernel link (Linux 5.9); `flags` are XDP_FLAGS_*.
    pub fn attach_xdp(self, ifindex: u32, flags: u32) -> os::Result<Link> {
        let sz = size_of::<b::bpf_link_create_opts>() as _;
        let opts = b::bpf_link_create_opts { sz, flags, ..Default::default() };
        let prog = self.raw_fd()?;
        // SAFETY: `opts` lives for the call; the descriptor is new and ours alone.
        unsafe {
            let fd = check(b::bpf_link_create(prog, ifindex as c_int, b::BPF_XDP, &opts))?;
            Ok(Link::of(Kind::Kernel(OwnedFd::from_raw_fd(fd))))
        }
    }

    /// Attaches to an interface's tcx hook (Linux 6.6).
    pub fn attach_tcx(self, ifindex: u32) -> os::Result<Link> {
        // SAFETY: a valid program; null options are the defaults.
        Link::made(unsafe { b::bpf_program__attach_tcx(self.ptr(), ifindex as c_int, std::ptr::null()) })
    }

    /// Attaches as a classic tc filter; `point` is BPF_TC_*.
    pub fn attach_tc(self, ifindex: u32, point: u32, handle: u32, priority: u32) -> os::Result<Link> {
        TcFilter::attach(self, ifindex, point, handle, priority).map(|filter| Link::of(Kind::Tc(filter)))
    }

    /// Attaches to a netkit device (Linux 6.7).
    pub fn attach_netkit(self, ifindex: u32) -> os::Result<Link> {
        // SAFETY: as for tcx.
        Link::made(unsafe { b::bpf_program__attach_netkit(self.ptr(), ifindex as c_int, std::ptr::null()) })
    }

    /// Attaches to a control group.
    pub fn attach_cgroup(self, cgroup: BorrowedFd<'_>) -> os::Result<Link> {
        // SAFETY: a valid program and descriptor.
        Link::made(unsafe { b::bpf_program__attach_cgroup(self.ptr(), cgroup.as_raw_fd()) })
    }

    /// Attaches to a network namespace.
    pub fn attach_netns(self, netns: BorrowedFd<'_>) -> os::Result<Link> {
        // SAFETY: a valid program and descriptor.
        Link::made(unsafe { b::bpf_program__attach_netns(self.ptr(), netns.as_raw_fd()) })
    }

    /// Attaches to a perf event, which the link owns from then on.
    pub fn attach_perf_event(self, event: OwnedFd) -> os::Result<Link> {
        // SAFETY: a valid program; on success libbpf closes the descriptor with the link, so it is given away.
        unsafe {
            let link = Link::made(b::bpf_program__attach_perf_event(self.ptr(), event.as_fd().as_raw_fd()))?;
            std::mem::forget(event);
            Ok(link)
        }
    }

    /// Attaches to a kernel function, so many bytes from its start.
    pub fn attach_kprobe(self, func: &CStr, offset: u64, on_return: bool) -> os::Result<Link> {
        let opts = b::bpf_kprobe_opts {
            sz: size_of::<b::bpf_kprobe_opts>() as _,
            offset: offset as _,
            retprobe: on_return,
            ..Default::default()
        };
        // SAFETY: `func` and `opts` live for the call.
        Link::made(unsafe { b::bpf_program__attach_kprobe_opts(self.ptr(), func.as_ptr(), &opts) })
    }

    /// Attaches to a tracepoint.
    pub fn attach_tracepoint(self, category: &CStr, name: &CStr) -> os::Result<Link> {
        // SAFETY: the texts live for the call.
        Link::made(unsafe { b::bpf_program__attach_tracepoint(self.ptr(), category.as_ptr(), name.as_ptr()) })
    }

    /// Attaches to a raw tracepoint.
    pub fn attach_raw_tracepoint(self, name: &CStr) -> os::Result<Link> {
        // SAFETY: the text lives for the call.
        Link::made(unsafe { b::bpf_program__attach_raw_tracepoint(self.ptr(), name.as_ptr()) })
    }

    /// Attaches to a function of user-space code.
    pub fn attach_uprobe(self, probe: &UserProbe<'_>) -> os::Result<Link> {
        let opts = b::bpf_uprobe_opts {
            sz: size_of::<b::bpf_uprobe_opts>() as _,
            retprobe: probe.on_return,
            func_name: probe.func.map_or(std::ptr::null(), CStr::as_ptr),
            ..Default::default()
        };
        // SAFETY: the texts and `opts` live for the call.
        Link::made(unsafe {
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
        // SAFETY: the texts live for the call; null options are the defaults.
        Link::made(unsafe {
            b::bpf_program__attach_usdt(self.ptr(), pid, path, provider, name, std::ptr::null())
        })
    }
}

impl MapRef<'_> {
    /// Registers a struct_ops map.
    pub fn attach_struct_ops(self) -> os::Result<Link> {
        // SAFETY: a valid map; libbpf refuses other kinds.
        Link::made(unsafe { b::bpf_map__attach_struct_ops(self.ptr()) })
    }
}

/// perf_event_open(2); the libc crate lacks it.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;

/// Opens a sampling perf event.
pub fn perf_event_open(event: &PerfEvent) -> os::Result<OwnedFd> {
    let mut attr = b::perf_event_attr {
        size: size_of::<b::perf_event_attr>() as u32,
        type_: event.kind,
        config: event.config,
        ..Default::default()
    };
    // Frequency and period share one field of the ABI; a bit says which it is.
    attr.__bindgen_anon_1.sample_period = event.sample;
    attr.set_freq(u64::from(event.is_frequency));
    let no_group: c_int = -1;
    // SAFETY: `attr` lives for the call and tells its own size.
    let fd = os::check(unsafe {
        libc::syscall(libc::SYS_perf_event_open, &attr, event.pid, event.cpu, no_group, PERF_FLAG_FD_CLOEXEC)
            as c_int
    })?;
    // SAFETY: the call has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
