//! The descriptors that the vm waits for: which of them is in which epoll set, now and after a pause.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::bpf::source::Sources;
use crate::os::{self, Again, Epoll, Errno};

/// Token of the stop request in the vm's epoll set.
pub const STOP: u64 = 0;
/// Token of a claim of the locks.
pub const CLAIM: u64 = 2;
/// Token of everything that means "there are events".
const EVENTS: u64 = 1;

/// The reason why the vm waits for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A buffer of the kernel, or the timer of sampled maps.
    Source,
    /// A buffer or timer of a version that a replace has retired.
    Retired,
    /// The queue has records.
    Queue,
    /// A record is kept that did not fit into the buffer of the last `read`.
    Pending,
}

/// The wait set before a replace.
pub struct Former {
    watched: Vec<(Role, Arc<Epoll>, RawFd)>,
    added: Vec<(Arc<Epoll>, RawFd)>,
    moved: Vec<(Arc<Epoll>, RawFd)>,
}

/// The descriptors that report events. While the vm is paused, none of them is in an epoll set.
#[derive(Default)]
pub struct WaitSet {
    paused: bool,
    watched: Vec<(Role, Arc<Epoll>, RawFd)>,
    /// Events that make the sources report their readiness again when they enter a set. See `Sources::again`.
    again: Vec<(Role, Arc<Again>)>,
}

impl WaitSet {
    /// Pauses or resumes. After a failure the set is paused as before.
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

    /// Puts the descriptors of a role into `epoll`, and removes all others of that role from their sets. After a failure nothing
    /// has changed.
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
        self.keep(role, &[]);
        self.watched.extend(fds.iter().map(|&fd| (role, Arc::clone(epoll), fd)));
        Ok(())
    }

    /// Puts these sources into `epoll` with their role, and removes all others of that role.
    pub fn watch_sources(&mut self, role: Role, epoll: &Arc<Epoll>, sources: &[&Sources]) -> os::Result<()> {
        let fds: Vec<RawFd> = sources.iter().flat_map(|sources| sources.fds()).collect();
        self.watch(role, epoll, &fds)?;
        self.again.retain(|(other, _)| *other != role);
        self.again.extend(sources.iter().filter_map(|sources| Some((role, sources.again()?))));
        self.ask_again();
        Ok(())
    }

    /// Makes the descriptors `new` the sources, in the set `theirs`. Moves the former sources to `epoll`, as those of a
    /// retired version. After a failure nothing has changed. The caller passes the result to `commit` or `undo`.
    #[inline(never)]
    pub fn retire(&mut self, epoll: &Arc<Epoll>, theirs: &Arc<Epoll>, new: &[RawFd]) -> os::Result<Former> {
        let is_old = |role: &Role| matches!(role, Role::Source | Role::Retired);
        let mut former = Former { watched: self.watched.clone(), added: Vec::new(), moved: Vec::new() };
        for (role, set, fd) in &mut self.watched {
            if is_old(role) && !Arc::ptr_eq(set, epoll) {
                former.moved.push((Arc::clone(set), *fd));
                *set = Arc::clone(epoll);
            }
            if *role == Role::Source {
                *role = Role::Retired;
            }
        }
        self.watched.extend(new.iter().map(|&fd| (Role::Source, Arc::clone(theirs), fd)));
        let moved = former.moved.iter().map(|(_, fd)| (epoll, *fd));
        for (set, fd) in moved.chain(new.iter().map(|&fd| (theirs, fd))).filter(|_| !self.paused) {
            if let Err(e) = set.add(fd, EVENTS) {
                self.undo(former);
                return Err(e);
            }
            former.added.push((Arc::clone(set), fd));
        }
        Ok(former)
    }

    /// Completes `retire`. `again` is that of the new sources.
    #[inline(never)]
    pub fn commit(&mut self, former: Former, again: Option<Arc<Again>>) {
        former.moved.iter().for_each(|(set, fd)| set.remove(*fd));
        self.again.iter_mut().for_each(|(role, _)| *role = Role::Retired);
        self.again.extend(again.map(|again| (Role::Source, again)));
        self.ask_again();
    }

    /// Returns to the state before `retire`.
    pub fn undo(&mut self, former: Former) {
        former.added.iter().for_each(|(set, fd)| set.remove(*fd));
        self.watched = former.watched;
    }

    /// Moves the sources to `epoll`. After a failure nothing has changed.
    pub fn move_sources(&mut self, epoll: &Arc<Epoll>) -> os::Result<()> {
        let sources = self.watched.iter().filter(|(role, ..)| *role == Role::Source);
        let fds: Vec<RawFd> = sources.map(|(.., fd)| *fd).collect();
        self.watch(Role::Source, epoll, &fds)?;
        self.ask_again();
        Ok(())
    }

    /// Makes the sources report their readiness again.
    pub fn ask_again(&self) {
        self.again.iter().for_each(|(_, again)| again.signal());
    }

    /// Forgets the descriptors of a role except `open`. The others have been closed and have thereby left their set.
    pub fn keep(&mut self, role: Role, open: &[RawFd]) {
        self.watched.retain(|(other, _, fd)| *other != role || open.contains(fd));
    }
}
