//! Events from a channel, for hosts that wait for several things at once. The shipped library is built without it: it
//! would grow by 30 kB.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::event::{Flow, Format};
use super::owned_event::OwnedEvent;
use super::state::{Vm, system_error};
use crate::error::Result;

impl Vm {
    /// Starts a thread that polls, and returns the receiver of a channel with its events. Needs the cargo feature
    /// `channel`.
    ///
    /// The channel holds at most `capacity` events. When it is full the thread waits, and further records stay in the
    /// kernel's buffers. The channel ends after [`Vm::stop`], or with the error of a poll as its last item. While the
    /// thread runs, other calls on the vm return [`Status::Busy`](crate::Status::Busy).
    ///
    /// Dropping the receiver ends the thread at the next event; `stop` ends it at once.
    ///
    /// ```no_run
    /// use eunomia::{Format, Kind, Options, Vm};
    /// use std::sync::Arc;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Arc::new(Vm::new(Options::new())?);
    /// vm.open_file("package.json", Kind::Json)?;
    /// vm.attach()?;
    /// let events = vm.channel(Format::Json, 1000)?;
    /// for event in events.iter().take(10) {
    ///     println!("{}", event?.text());
    /// }
    /// vm.stop();
    /// # Ok(())
    /// # }
    /// ```
    pub fn channel(self: &Arc<Vm>, format: Format, capacity: usize) -> Result<Receiver<Result<OwnedEvent>>> {
        let (sender, receiver) = bounded(capacity);
        let vm = Arc::clone(self);
        let work = move || vm.send(format, &sender);
        let thread = thread::Builder::new().name("eunomia-channel".into()).spawn(work);
        thread.map(|_| receiver).map_err(|e| system_error("channel", e.into()))
    }

    /// Sends events until the vm is stopped or the receiver is gone.
    fn send(&self, format: Format, sender: &Sender<Result<OwnedEvent>>) {
        let ran = self.run(format, |event| match sender.send(Ok(event.into())) {
            Ok(()) => Flow::Continue,
            Err(_) => Flow::End,
        });
        if let Err(error) = ran {
            // If the receiver is gone, no one can receive the error.
            let _ = sender.send(Err(error));
        }
    }
}
