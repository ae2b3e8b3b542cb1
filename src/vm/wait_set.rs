//! What the vm waits for: which descriptor sits in which epoll set, now and after a pause.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::bpf::source::Sources;
use crate::os::{self, Epoll, Errno, EventFd};

/// Token of the stop request in the vm's epoll set; everything else means events.
pub const STOP: u64 = 0;
/// Token of everything that means "there are events".
const EVENTS: u64 = 1;

/// Why a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The kernel's buffers and the timer of sampled maps.
    Source,
    /// Records in the queue.
    Queue,
    /// A record that did not fit into the last `read`.
    Pending,
}

/// The descriptors behind the events. Paused, none of them is waited for.
#[derive(Default)]
pub struct WaitSet {
    paused: bool,
    watched: Vec<(Role, Arc<Epoll>, RawFd)>,
    /// Signalled when sources come into a set: that asks for their readiness. See `Sources::again`.
    again: Vec<Arc<EventFd>>,
}

impl WaitSet {
    /// Holds events back or lets them through. After a failure they are held back as before.
    pub fn pause(&mut self, on: bool) -> os::Result<()> {
        if self.paused == on {
            return Ok(());
        }
        if on {
            self.remove_all();
        } else {
            let added = self.watched.iter().try_for_each(|(_, epoll, fd)| epoll.add(*fd, EVENTS));
            added.inspect_err(|_| self.remove_all())?;
        }
        self.paused = on;
        self.ask_again();
        Ok(())
    }

    fn remove_all(&self) {
        self.watched.iter().for_each(|(_, epoll, fd)| epoll.remove(*fd));
    }

    /// Has `epoll` wait for these descriptors in that role, and nobody else any longer. After a failure all is as before.
    pub fn watch(&mut self, role: Role, epoll: &Arc<Epoll>, fds: &[RawFd]) -> os::Result<()> {
        let mut added = Vec::new();
        for &fd in fds.iter().filter(|_| !self.paused) {
            match epoll.add(fd, EVENTS) {
                Ok(()) => added.push(fd),
                Err(Errno(libc::EEXIST)) => {}
                Err(e) => {
                    added.iter().for_each(|&fd| epoll.remove(fd));
                    return Err(e);
                }
            }
        }
        let stays = |set: &Arc<Epoll>, fd: &RawFd| Arc::ptr_eq(set, epoll) && fds.contains(fd);
        let old = self.watched.iter().filter(|(other, set, fd)| *other == role && !stays(set, fd));
        old.for_each(|(_, set, fd)| set.remove(*fd));
        self.forget(role);
        self.watched.extend(fds.iter().map(|&fd| (role, Arc::clone(epoll), fd)));
        Ok(())
    }

    /// Has `epoll` wait for these sources, and for no others.
    pub fn watch_sources(&mut self, epoll: &Arc<Epoll>, sources: &[&Sources]) -> os::Result<()> {
        let fds: Vec<RawFd> = sources.iter().flat_map(|sources| sources.fds()).collect();
        self.watch(Role::Source, epoll, &fds)?;
        self.again = sources.iter().filter_map(|sources| sources.again()).collect();
        self.ask_again();
        Ok(())
    }

    /// Has `epoll` wait for the sources of before. After a failure all is as before.
    pub fn move_sources(&mut self, epoll: &Arc<Epoll>) -> os::Result<()> {
        let sources = self.watched.iter().filter(|(role, ..)| *role == Role::Source);
        let fds: Vec<RawFd> = sources.map(|(.., fd)| *fd).collect();
        self.watch(Role::Source, epoll, &fds)?;
        self.ask_again();
        Ok(())
    }

    /// Asks the sources for their readiness.
    pub fn ask_again(&self) {
        self.again.iter().for_each(|again| again.signal());
    }

    /// The descriptors of that role have been closed, and left their set by that.
    pub fn forget(&mut self, role: Role) {
        self.watched.retain(|(other, ..)| *other != role);
    }
}
