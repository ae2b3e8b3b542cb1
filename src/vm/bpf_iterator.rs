//! Output of BPF iterators (programs in `iter/` sections).

use super::event::{Event, EventKind, Flow, Format, outcome};
use super::state::{Vm, system_error};
use crate::bpf::session::iterator::read_iterator;
use crate::error::Result;
use crate::os;

impl Vm {
    /// Runs the attached BPF iterator `prog` and passes its output to `callback`. Returns the number of calls.
    ///
    /// An iterator that writes text delivers one event per line, with [`Format::Text`]. One that writes binary records
    /// delivers each piece that it wrote, with [`Format::Raw`]. The statistics do not count these events.
    ///
    /// ```no_run
    /// use eunomia::Flow;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.iter_each("dump_tasks", |line| {
    ///     println!("{}", String::from_utf8_lossy(line.data));
    ///     Flow::Continue
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter_each(&self, prog: &str, mut callback: impl FnMut(&Event<'_>) -> Flow) -> Result<usize> {
        let (inner, _delivery) = self.exclusive()?;
        let session = inner.session()?;
        let source = session.prog_info(session.prog_index(prog)?).name;
        let (file, is_text) = session.open_iterator(prog)?;
        drop(inner);
        let _polling = self.shared.stop.polling();
        let format = if is_text { Format::Text } else { Format::Raw };
        let (mut count, mut ended) = (0, None);
        let mut line = Vec::new();
        let time_ns = os::monotonic_ns();
        let read = read_iterator(file, is_text, |piece| {
            count += 1;
            line.clear();
            line.extend_from_slice(piece);
            line.push(0);
            let data = &line[..line.len() - 1];
            let event = Event { time_ns, ..Event::new(EventKind::Sample, format, &source, [data, &[]]) };
            match callback(&event) {
                Flow::Continue => true,
                flow => {
                    ended = Some(flow);
                    false
                }
            }
        });
        read.map_err(|e| system_error(&format!("iterator {prog:?}"), e))?;
        outcome(ended, count)
    }
}
