//! Classic tc filters, which are no links: what was put in must be taken out by hand, and the clsact qdisc under it
//! only if nobody else uses it. What a host that was killed has left is replaced by the next one.

use std::ffi::c_int;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_sys as b;

use super::object::{ProgFacts, ProgRef, prog_facts};
use super::result::check;
use crate::os::{self, Errno};

/// A filter; letting go of it (drop) takes it out.
pub struct TcFilter {
    hook: b::bpf_tc_hook,
    handle: u32,
    priority: u32,
    made_qdisc: bool,
    /// The process that put it in.
    owner: u32,
}

impl Drop for TcFilter {
    fn drop(&mut self) {
        // In a child of fork it is still the parent's.
        if self.owner != std::process::id() {
            return;
        }
        let sz = size_of::<b::bpf_tc_opts>() as _;
        let opts = b::bpf_tc_opts { sz, handle: self.handle, priority: self.priority, ..Default::default() };
        // SAFETY: both structs live for the call.
        unsafe { b::bpf_tc_detach(&self.hook, &opts) };
        // If nobody can tell whether it is in use, it stays: it does nothing by itself.
        if self.made_qdisc && is_empty(self.hook.ifindex).unwrap_or(false) {
            remove_qdisc(&mut self.hook);
        }
    }
}

impl TcFilter {
    /// Attaches a program, making the clsact qdisc if it is missing. `point` is BPF_TC_*.
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
        let made_qdisc = match check(unsafe { b::bpf_tc_hook_create(&mut hook) }) {
            Ok(_) => true,
            Err(e) if e.0 == libc::EEXIST => false,
            Err(e) => return Err(e),
        };
        // SAFETY: both structs live for the call.
        let mut attached = check(unsafe { b::bpf_tc_attach(&hook, &mut opts) });
        if matches!(attached, Err(Errno(libc::EEXIST))) && was_left(prog, &hook, handle, priority) {
            opts.flags = b::BPF_TC_F_REPLACE;
            // SAFETY: as above.
            attached = check(unsafe { b::bpf_tc_attach(&hook, &mut opts) });
        }
        if attached.is_err() && made_qdisc {
            remove_qdisc(&mut hook);
        }
        attached?;
        let (handle, priority, owner) = (opts.handle, opts.priority, std::process::id());
        Ok(TcFilter { hook, handle, priority, made_qdisc, owner })
    }
}

/// Whether the filter in this place has the same program, of a host that was killed: no process has it any longer. If
/// that cannot be told, as without CAP_SYS_ADMIN, it was not.
fn was_left(prog: ProgRef<'_>, hook: &b::bpf_tc_hook, handle: u32, priority: u32) -> bool {
    let own = prog.raw_fd().and_then(|fd| prog_facts(&fd));
    let (Ok(own), Ok(other)) = (own, program_in(hook, handle, priority)) else { return false };
    (own.name, own.tag) == (other.name, other.tag) && !is_held(other.id)
}

/// What the kernel says of the program of a filter.
fn program_in(hook: &b::bpf_tc_hook, handle: u32, priority: u32) -> os::Result<ProgFacts> {
    let sz = size_of::<b::bpf_tc_opts>() as _;
    let mut there = b::bpf_tc_opts { sz, handle, priority, ..Default::default() };
    // SAFETY: both structs live for the call.
    check(unsafe { b::bpf_tc_query(hook, &mut there) })?;
    // SAFETY: the kernel makes a descriptor for us alone. It is closed before anyone looks who has one.
    let prog = unsafe { OwnedFd::from_raw_fd(check(b::bpf_prog_get_fd_by_id(there.prog_id))?) };
    prog_facts(&prog)
}

/// Whether a process has a descriptor of the program of that id.
fn is_held(id: u32) -> bool {
    let line = format!("prog_id:\t{id}\n");
    let is_process = |name: &&String| name.starts_with(|first: char| first.is_ascii_digit());
    os::names("/proc").iter().filter(is_process).any(|process| {
        let folder = format!("/proc/{process}/fdinfo");
        os::names(&folder).iter().any(|fd| {
            let info = os::read_text(&format!("{folder}/{fd}")).unwrap_or_default();
            os::find(info.as_bytes(), line.as_bytes()).is_some()
        })
    })
}

fn remove_qdisc(hook: &mut b::bpf_tc_hook) {
    hook.attach_point = b::BPF_TC_INGRESS | b::BPF_TC_EGRESS;
    // SAFETY: the struct lives for the call.
    unsafe { b::bpf_tc_hook_destroy(hook) };
}

/// Whether no filter hangs at the clsact qdisc of an interface.
fn is_empty(ifindex: c_int) -> os::Result<bool> {
    // linux/pkt_sched.h: TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and the same with TC_H_MIN_EGRESS.
    const INGRESS: u32 = 0xffff_fff2;
    const EGRESS: u32 = 0xffff_fff3;
    Ok(!has_filter(ifindex, INGRESS)? && !has_filter(ifindex, EGRESS)?)
}

/// rtnetlink(7): a request for all filters under `parent`.
#[repr(C)]
struct Request {
    head: libc::nlmsghdr,
    family: u8,
    padding: [u8; 3],
    ifindex: c_int,
    handle: u32,
    parent: u32,
    info: u32,
}

/// The first message of the answer is a filter, or the end of the list.
fn has_filter(ifindex: c_int, parent: u32) -> os::Result<bool> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let len = size_of::<Request>() as u32;
    let head = libc::nlmsghdr {
        nlmsg_len: len,
        nlmsg_type: libc::RTM_GETTFILTER,
        nlmsg_flags: flags,
        nlmsg_seq: 0,
        nlmsg_pid: 0,
    };
    let request = Request { head, family: 0, padding: [0; 3], ifindex, handle: 0, parent, info: 0 };
    let mut answer = [0u64; 1024];
    // SAFETY: request and answer live for the calls and have the lengths that are told; the descriptor is ours alone.
    let (received, kind) = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let socket =
            OwnedFd::from_raw_fd(os::check(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE))?);
        let fd = socket.as_raw_fd();
        os::check(libc::send(fd, (&raw const request).cast(), len as usize, 0) as c_int)?;
        let received =
            os::check(libc::recv(fd, answer.as_mut_ptr().cast(), size_of_val(&answer), 0) as c_int)?;
        (received as usize, (*answer.as_ptr().cast::<libc::nlmsghdr>()).nlmsg_type)
    };
    let is_answer = received >= size_of::<libc::nlmsghdr>() && c_int::from(kind) != libc::NLMSG_ERROR;
    if is_answer { Ok(kind == libc::RTM_NEWTFILTER) } else { Err(Errno(libc::EPROTO)) }
}
