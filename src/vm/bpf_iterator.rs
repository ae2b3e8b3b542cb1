//! Output of BPF iterators.

use super::event::{Event, EventFn, EventKind, Flow, Format, end_of};
use super::state::{Vm, system_error};
use crate::bpf::session::iterator::read_iterator;
use crate::error::Result;
use crate::os;

impl Vm {
    /// Runs an attached iterator and calls back for each line of its output (`Format::Text`), or for each piece if it
    /// writes binary records (`Format::Raw`).
    pub fn iter_each(&self, prog: &str, callback: &mut (impl EventFn + ?Sized)) -> Result<usize> {
        let (inner, _delivery) = self.exclusive()?;
        let session = inner.session()?;
        let name = session.prog_info(session.prog_index(prog)?).name;
        let (file, is_text) = session.open_iterator(prog)?;
        drop(inner);
        let format = if is_text { Format::Text } else { Format::Raw };
        let (mut count, mut ended) = (0, None);
        let mut line = Vec::new();
        let time_ns = os::monotonic_ns();
        let read = read_iterator(file, is_text, |piece| {
            count += 1;
            line.clear();
            line.extend_from_slice(piece);
            line.push(0);
            let (kind, source, data) = (EventKind::Sample, &*name, &line[..line.len() - 1]);
            match callback(&Event {
                kind,
                format,
                source,
                data,
                key: &[],
                ty: None,
                lost: 0,
                cpu: -1,
                time_ns,
                printed: false,
            }) {
                Flow::Continue => true,
                flow => {
                    ended = Some(flow);
                    false
                }
            }
        });
        read.map_err(|e| system_error(&format!("iterator {prog:?}"), e))?;
        end_of(ended, count)
    }
}
