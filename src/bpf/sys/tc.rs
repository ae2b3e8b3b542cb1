//! Classic tc filters, which are not links: they must be removed explicitly, and the clsact qdisc only if no other filter uses
//! it. A filter that a killed host has left behind is replaced.

use std::ffi::c_int;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_sys as b;

use super::object::{ProgFacts, ProgRef, prog_facts};
use super::result::check;
use crate::os::{self, Errno};

/// A filter. Dropping it removes it.
pub struct TcFilter {
    hook: b::bpf_tc_hook,
    handle: u32,
    priority: u32,
    created_qdisc: bool,
    /// The process that added it.
    owner: u32,
}

impl Drop for TcFilter {
    fn drop(&mut self) {
        // In a child of fork, the filter belongs to the parent.
        if self.owner != std::process::id() {
            return;
        }
        let sz = size_of::<b::bpf_tc_opts>() as _;
        let opts = b::bpf_tc_opts { sz, handle: self.handle, priority: self.priority, ..Default::default() };
        // SAFETY: both structs live for the call.
        unsafe { b::bpf_tc_detach(&self.hook, &opts) };
        // If it is unknown whether the qdisc is in use, it stays: a qdisc without filters has no effect.
        if self.created_qdisc && is_empty(self.hook.ifindex).unwrap_or(false) {
            remove_qdisc(&mut self.hook);
        }
    }
}

impl TcFilter {
    /// Attaches a program and creates the clsact qdisc if it is missing. `point` is BPF_TC_*.
    pub fn attach(
        prog: ProgRef<'_>,
        ifindex: u32,
        point: u32,
        handle: u32,
        priority: u32,
    ) -> os::Result<TcFilter> {
        let mut hook = b::bpf_tc_hook {
            sz: size_of::<b::bpf_tc_hook>() as _,
            ifindex: ifindex as c_int,
            attach_point: point,
            ..Default::default()
        };
        let mut opts = b::bpf_tc_opts {
            sz: size_of::<b::bpf_tc_opts>() as _,
            prog_fd: prog.raw_fd()?,
            handle,
            priority,
            ..Default::default()
        };
        // SAFETY: the struct lives for the call.
        let created_qdisc = match check(unsafe { b::bpf_tc_hook_create(&mut hook) }) {
            Ok(_) => true,
            Err(e) if e.0 == libc::EEXIST => false,
            Err(e) => return Err(e),
        };
        // SAFETY: both structs live for the call.
        let mut attached = check(unsafe { b::bpf_tc_attach(&hook, &mut opts) });
        if matches!(attached, Err(Errno(libc::EEXIST))) && is_left_behind(prog, &hook, handle, priority) {
            opts.flags = b::BPF_TC_F_REPLACE;
            // SAFETY: as above.
            attached = check(unsafe { b::bpf_tc_attach(&hook, &mut opts) });
        }
        if attached.is_err() && created_qdisc {
            remove_qdisc(&mut hook);
        }
        attached?;
        let (handle, priority, owner) = (opts.handle, opts.priority, std::process::id());
        Ok(TcFilter { hook, handle, priority, created_qdisc, owner })
    }
}

/// Whether the existing filter has the same program and was left behind by a killed host: no process has a descriptor of its
/// program. False if that is unknown, as without CAP_SYS_ADMIN.
fn is_left_behind(prog: ProgRef<'_>, hook: &b::bpf_tc_hook, handle: u32, priority: u32) -> bool {
    let own = prog.raw_fd().and_then(|fd| prog_facts(&fd));
    let (Ok(own), Ok(other)) = (own, program_in(hook, handle, priority)) else { return false };
    (own.name, own.tag) == (other.name, other.tag) && !is_held(other.id)
}

/// Returns the kernel's facts about the program of a filter.
fn program_in(hook: &b::bpf_tc_hook, handle: u32, priority: u32) -> os::Result<ProgFacts> {
    let sz = size_of::<b::bpf_tc_opts>() as _;
    let mut found = b::bpf_tc_opts { sz, handle, priority, ..Default::default() };
    // SAFETY: both structs live for the call.
    check(unsafe { b::bpf_tc_query(hook, &mut found) })?;
    // SAFETY: the kernel returns a new descriptor, which nothing else knows. It is closed before `is_held` looks for descriptors.
    let prog = unsafe { OwnedFd::from_raw_fd(check(b::bpf_prog_get_fd_by_id(found.prog_id))?) };
    prog_facts(&prog)
}

/// Whether a process has a descriptor of the program with that id.
fn is_held(id: u32) -> bool {
    let line = format!("prog_id:\t{id}\n");
    let is_process = |name: &&String| name.starts_with(|first: char| first.is_ascii_digit());
    os::directory_names("/proc").iter().filter(is_process).any(|process| {
        let directory = format!("/proc/{process}/fdinfo");
        os::directory_names(&directory).iter().any(|fd| {
            let info = os::read_text(&format!("{directory}/{fd}")).unwrap_or_default();
            os::find(info.as_bytes(), line.as_bytes()).is_some()
        })
    })
}

fn remove_qdisc(hook: &mut b::bpf_tc_hook) {
    hook.attach_point = b::BPF_TC_INGRESS | b::BPF_TC_EGRESS;
    // SAFETY: the struct lives for the call.
    unsafe { b::bpf_tc_hook_destroy(hook) };
}

/// Whether the clsact qdisc of an interface has no filters.
fn is_empty(ifindex: c_int) -> os::Result<bool> {
    // linux/pkt_sched.h: TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and the same with TC_H_MIN_EGRESS.
    const INGRESS: u32 = 0xffff_fff2;
    const EGRESS: u32 = 0xffff_fff3;
    Ok(!has_filter(ifindex, INGRESS)? && !has_filter(ifindex, EGRESS)?)
}

/// rtnetlink(7): a request for all filters under `parent`.
#[repr(C)]
struct Request {
    header: libc::nlmsghdr,
    family: u8,
    padding: [u8; 3],
    ifindex: c_int,
    handle: u32,
    parent: u32,
    info: u32,
}

/// Whether there is a filter: the first message of the reply is a filter or the end of the list.
fn has_filter(ifindex: c_int, parent: u32) -> os::Result<bool> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let len = size_of::<Request>() as u32;
    let header = libc::nlmsghdr {
        nlmsg_len: len,
        nlmsg_type: libc::RTM_GETTFILTER,
        nlmsg_flags: flags,
        nlmsg_seq: 0,
        nlmsg_pid: 0,
    };
    let request = Request { header, family: 0, padding: [0; 3], ifindex, handle: 0, parent, info: 0 };
    let mut reply = [0u64; 1024];
    // SAFETY: request and reply live for the calls and have these lengths; the descriptor is new.
    let (received, kind) = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let socket =
            OwnedFd::from_raw_fd(os::check(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE))?);
        let fd = socket.as_raw_fd();
        os::check(libc::send(fd, (&raw const request).cast(), len as usize, 0) as c_int)?;
        let received = os::check(libc::recv(fd, reply.as_mut_ptr().cast(), size_of_val(&reply), 0) as c_int)?;
        (received as usize, (*reply.as_ptr().cast::<libc::nlmsghdr>()).nlmsg_type)
    };
    let is_reply = received >= size_of::<libc::nlmsghdr>() && c_int::from(kind) != libc::NLMSG_ERROR;
    if is_reply { Ok(kind == libc::RTM_NEWTFILTER) } else { Err(Errno(libc::EPROTO)) }
}
