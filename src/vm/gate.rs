//! What the vm waits for: which descriptor sits in which epoll set, now and after a pause.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::bpf::source::Sources;
use crate::os::{self, Epoll, EventFd};

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
    Carry,
}

/// The descriptors behind the events. Paused, none of them is waited for.
#[derive(Default)]
pub struct Gate {
    paused: bool,
    watched: Vec<(Role, Arc<Epoll>, RawFd)>,
    /// Signalled when sources come into a set: that asks for their readiness. See `Sources::again`.
    again: Vec<Arc<EventFd>>,
}

impl Gate {
    /// Holds events back or lets them through.
    pub fn pause(&mut self, on: bool) -> os::Result<()> {
        if self.paused == on {
            return Ok(());
        }
        self.paused = on;
        self.watched.iter().try_for_each(|(_, epoll, fd)| {
            if on {
                epoll.remove(*fd);
                return Ok(());
            }
            epoll.add(*fd, EVENTS)
        })?;
        self.ask_again();
        Ok(())
    }

    /// Has `epoll` wait for these descriptors in that role, and nobody else any longer.
    pub fn watch(&mut self, role: Role, epoll: &Arc<Epoll>, fds: &[RawFd]) -> os::Result<()> {
        self.watched.iter().filter(|(other, ..)| *other == role).for_each(|(_, epoll, fd)| epoll.remove(*fd));
        self.forget(role);
        for &fd in fds {
            if !self.paused {
                epoll.add(fd, EVENTS)?;
            }
            self.watched.push((role, Arc::clone(epoll), fd));
        }
        Ok(())
    }

    /// Has `epoll` wait for these sources, and for no others.
    pub fn watch_sources(&mut self, epoll: &Arc<Epoll>, sources: &[&Sources]) -> os::Result<()> {
        self.again = sources.iter().filter_map(|sources| sources.again()).collect();
        let fds: Vec<RawFd> = sources.iter().flat_map(|sources| sources.fds()).collect();
        self.watch(Role::Source, epoll, &fds)?;
        self.ask_again();
        Ok(())
    }

    fn ask_again(&self) {
        self.again.iter().for_each(|again| again.signal());
    }

    /// The descriptors of that role have been closed, and left their set by that.
    pub fn forget(&mut self, role: Role) {
        self.watched.retain(|(other, ..)| *other != role);
    }
}
