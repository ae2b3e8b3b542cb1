//! A pair of netkit devices. They send packets as soon as they are up, because IPv6 discovers neighbours.

use std::mem::size_of;

const NAME: &str = "eunk0";

/// The device, or loopback if the kernel has no such device.
pub fn name() -> &'static str {
    if index(NAME).is_some() { NAME } else { "lo" }
}

pub struct Device;

impl Device {
    /// Creates the device if the kernel supports such devices.
    pub fn new() -> Device {
        // A request for a link with IFLA_IFNAME and IFLA_LINKINFO, like that of `ip link add NAME type netkit`.
        let kind = attribute(libc::IFLA_INFO_KIND, b"netkit\0");
        let name = attribute(libc::IFLA_IFNAME, format!("{NAME}\0").as_bytes());
        let body = [vec![0; 16], name, attribute(libc::IFLA_LINKINFO, &kind)].concat();
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        ask(libc::RTM_NEWLINK, flags as u16, &body);
        for index in [index(NAME), index(NAME).map(|index| index - 1)].into_iter().flatten() {
            set_up(index);
        }
        Device
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(index) = index(NAME) {
            ask(libc::RTM_DELLINK, libc::NLM_F_REQUEST as u16, &link(index, 0, 0));
        }
    }
}

fn index(name: &str) -> Option<i32> {
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

fn set_up(index: i32) {
    let up = libc::IFF_UP as u32;
    ask(libc::RTM_NEWLINK, libc::NLM_F_REQUEST as u16, &link(index, up, up));
}

/// struct ifinfomsg of linux/rtnetlink.h.
fn link(index: i32, flags: u32, change: u32) -> Vec<u8> {
    [&[0; 4][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &change.to_ne_bytes()].concat()
}

fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
    let len = 4 + data.len() as u16;
    let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), data].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends one message to the kernel. The reply does not matter: afterwards the device exists or not.
fn ask(kind: u16, flags: u16, body: &[u8]) {
    let len = (size_of::<libc::nlmsghdr>() + body.len()) as u32;
    let head = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    let message = [&head[..], body].concat();
    // SAFETY: the message has the given length; this function owns the socket.
    unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        assert!(socket >= 0);
        libc::send(socket, message.as_ptr().cast(), message.len(), 0);
        libc::close(socket);
    }
}
