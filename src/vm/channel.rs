//! Events from a channel, for hosts that wait for several things at once. In no library that ships: a channel costs it
//! 30 kB.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::event::{Event, Flow, Format};
use super::owned_event::OwnedEvent;
use super::state::{Vm, system_error};
use crate::error::Result;

impl Vm {
    /// Starts a thread that polls, and gives out the end of the channel that its events arrive at. At most `room` of them
    /// wait there; then the thread waits too, and further records in the kernel's buffers. The channel ends after
    /// [`Vm::stop`], or with the error of a poll. While the thread is there, other calls on the vm answer `Busy`.
    ///
    /// Dropping the receiver ends the thread with the next event; `stop` ends it at once.
    ///
    /// ```no_run
    /// use eunomia::{Format, Kind, Options, Vm};
    /// use std::sync::Arc;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Arc::new(Vm::new(Options::default())?);
    /// vm.open_file("package.json", Kind::Json as u32)?;
    /// vm.attach()?;
    /// let events = vm.channel(Format::Json, 1000)?;
    /// for event in events.iter().take(10) {
    ///     println!("{}", event?.text());
    /// }
    /// vm.stop();
    /// # Ok(())
    /// # }
    /// ```
    pub fn channel(self: &Arc<Vm>, format: Format, room: usize) -> Result<Receiver<Result<OwnedEvent>>> {
        let (sender, receiver) = bounded(room);
        let vm = Arc::clone(self);
        let work = move || vm.send(format, &sender);
        let thread = thread::Builder::new().name("eunomia-channel".into()).spawn(work);
        thread.map(|_| receiver).map_err(|e| system_error("channel", e.into()))
    }

    /// Sends events until there are no more, or nobody takes them.
    fn send(&self, format: Format, sender: &Sender<Result<OwnedEvent>>) {
        let mut hand_on = |event: &Event<'_>| match sender.send(Ok(event.into())) {
            Ok(()) => Flow::Continue,
            Err(_) => Flow::End,
        };
        if let Err(error) = self.run(format, &mut hand_on) {
            // Nobody is left who would want to know.
            let _ = sender.send(Err(error));
        }
    }
}
