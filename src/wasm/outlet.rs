//! The vm as a run of a guest sees it: where events and output go, and how to wait.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use crate::bpf::map::Map;
use crate::bpf::session::Session;
use crate::bpf::source::{Shape, Sink, Sources};
use crate::error::Result;
use crate::log::Log;

/// The reason why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be records.
    Events,
    /// `stop` was called. The request is cleared.
    Stop,
    /// The deadline has passed.
    Timeout,
}

/// Receives what a guest passes on, and waits for events. A `false` from one of the methods ends the guest.
pub trait Outlet: Sink {
    /// Returns the name of the format that the host asked for, if it is not JSON. A guest that gets JSON can only pass
    /// on JSON.
    fn format_other_than_json(&self) -> Option<&'static str>;
    /// Makes `wait` wait for these sources, and for no others.
    fn watch(&mut self, sources: &[&Sources]) -> Result<()>;
    /// Waits for a source, for `stop`, or until `deadline`.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<Wake>;
    /// Delivers a line that the guest printed.
    fn output(&mut self, line: &[u8]) -> bool;
    /// Delivers JSON that the guest has seen and perhaps changed: a record, or a map entry if there is a key. `len` is the
    /// size of the record in bytes.
    fn json(&mut self, source: &Shape, cpu: i32, key: Option<&[u8]>, json: &[u8], len: usize) -> bool;
    /// Sets whether the guest printed while it handled the event that is delivered next.
    fn set_printed(&mut self, printed: bool);
    /// Counts events that the guest consumed itself.
    fn count_consumed(&mut self, events: u64, bytes: u64);
    /// Counts events that the guest dropped.
    fn count_dropped(&mut self, events: u64);
    /// Loads a package of the guest whose events may come to this outlet.
    fn load(&mut self, session: &mut Session) -> Result<Sources>;
    /// Called after the guest has loaded a package.
    fn after_load(&mut self, session: &Session);
    /// Called before a package of the guest is unloaded.
    fn before_unload(&mut self, session: &Session);
    /// Called after the guest has ended, before everything that it left loaded is unloaded.
    fn before_unload_all(&mut self);
    /// Offers the maps of a package that the ended guest has left open, before it is unloaded.
    fn offer_maps(&mut self, maps: &[Arc<Map>]);
}

/// The parts of the vm that a run needs apart from the outlet.
pub struct Vm<'a> {
    /// Readable while a request to stop is pending.
    pub stop_fd: RawFd,
    /// The vm's log.
    pub log: &'a Arc<Log>,
    /// The configuration with which packages of the guest are opened.
    pub session: &'a crate::bpf::session::Config,
}
