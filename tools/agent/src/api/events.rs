//! `/v1/tasks/{id}/events`: a stream of the events of a task, as lines of JSON or as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{Api, input};
use crate::error::{ApiError, Result};
use crate::filter::LineFilter;
use crate::http::{Body, Request, Response};
use crate::log::{Follower, Form, LineWriter, Lines, Read};
use crate::task::{CountedReader, Task};

/// Maximum number of pieces that are buffered for a slow caller. Further lines stay in the log.
const PIECES: usize = 2;
/// The size of a piece, in bytes, beyond which no further lines are added.
const PIECE: usize = 256 << 10;
/// The time between two pieces while there are few events. Fewer pieces cost less if there are many readers.
const PAUSE: Duration = Duration::from_millis(10);
/// After a piece of this size, the next one is sent as soon as possible.
const FEW: usize = 64 << 10;

impl Api {
    pub(super) fn events(&self, request: &Request, id: u64) -> Result<Response> {
        let task = self.tasks.get(id)?;
        let headers = &request.head.headers;
        let accepts = |name: &str| {
            let mut values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
            values.any(|value| value.contains(name))
        };
        let form = if accepts("text/event-stream") { Form::Sse } else { Form::Lines };
        // Browsers send this header when they reconnect.
        let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let (mut since, mut follow, mut filter) = (last, true, None);
        for (name, value) in input::query(request, &["since", "follow", "filter"])? {
            match (name, value) {
                ("since", value) => since = Some(value),
                ("filter", value) => filter = Some(input::decoded("filter", value)?),
                ("follow", "true") => follow = true,
                ("follow", "false") => follow = false,
                (_, value) => {
                    return Err(ApiError::invalid(format_args!(
                        "follow: expected true or false, found {value:?}"
                    )));
                }
            }
        }
        let filter =
            filter.map(|text| self.tasks.between_turns(|| LineFilter::new(&text, &task))).transpose()?;
        let (position, is_gap) = position(&task, since)?;
        let counted = task.count_reader();
        let (sender, receiver) = mpsc::channel(PIECES);
        let writer = LineWriter::new(form, &task.log);
        let follower = task.log.follow(position);
        let reader = Reader { task, position, follower, writer, filter, sender, _counted: counted };
        tokio::spawn(reader.run(follow, is_gap));
        let mut response = http::Response::new(Body::Stream(receiver));
        let kind = if form == Form::Sse { "text/event-stream" } else { "application/x-ndjson" };
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// Returns the position at which a reader begins, and whether it may have missed lines of another run of the server.
fn position(task: &Task, since: Option<&str>) -> Result<(u64, bool)> {
    let log = &task.log;
    let invalid = |_| {
        let text = format!("since: expected now or a cursor, found {:?}", since.unwrap_or_default());
        ApiError::invalid(text)
    };
    match since {
        None => Ok((log.oldest(), false)),
        Some("now") => Ok((log.next(), false)),
        Some(cursor) => match log.parse(cursor).map_err(invalid)? {
            Some(position) => Ok((position, false)),
            None => Ok((log.oldest(), true)),
        },
    }
}

/// Whether there is more to read.
enum Rest {
    /// There are more lines.
    Some,
    /// There are no lines now.
    Nothing,
    /// There are no lines, and there will be none.
    End,
}

/// One caller that reads the events of a task.
struct Reader {
    task: Arc<Task>,
    position: u64,
    follower: Follower,
    writer: LineWriter,
    filter: Option<LineFilter>,
    sender: mpsc::Sender<Bytes>,
    _counted: CountedReader,
}

impl Reader {
    async fn run(mut self, follow: bool, is_gap: bool) {
        let mut changes = self.task.log.changes();
        if is_gap {
            self.writer.other(self.position, &json!({"lost": null, "by": "server"}));
        }
        let mut next = Instant::now();
        loop {
            changes.mark_unchanged();
            let rest = self.fill();
            let piece = self.writer.take();
            let is_busy = piece.len() > FEW;
            if !piece.is_empty() {
                if self.sender.send(piece).await.is_err() {
                    return;
                }
                next = Instant::now() + PAUSE;
            }
            match rest {
                Rest::Some => continue,
                Rest::Nothing if follow => {}
                Rest::Nothing | Rest::End => return,
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = self.sender.closed() => return,
            }
            if !is_busy {
                sleep_until(next).await;
            }
        }
    }

    /// Writes the lines that wait, up to the size of a piece. Returns whether there is more.
    fn fill(&mut self) -> Rest {
        while self.writer.size() < PIECE {
            match self.task.log.read(&mut self.position) {
                Read::Lines(lines) => {
                    self.follower.has_read(self.position);
                    if let Err(why) = self.lines(&lines) {
                        self.writer.other(self.position, &json!({"end": "filter", "error": why}));
                        return Rest::End;
                    }
                }
                Read::Lost(count) => {
                    self.writer.other(self.position, &json!({"lost": count, "by": "reader"}))
                }
                Read::Nothing => return Rest::Nothing,
                Read::End => {
                    self.writer.other(self.position, &json!({"end": "stopped"}));
                    return Rest::End;
                }
            }
        }
        Rest::Some
    }

    /// Writes the lines that the filter accepts.
    fn lines(&mut self, lines: &Lines) -> Result<(), String> {
        for line in lines.iter() {
            let is_shown = self.filter.as_mut().map_or(Ok(true), |filter| filter.accepts(&line))?;
            if is_shown {
                self.writer.line(&line);
            }
        }
        Ok(())
    }
}
