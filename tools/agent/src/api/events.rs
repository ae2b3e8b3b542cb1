//! `/v1/tasks/{id}/events`: the events of a task as they come, as lines of JSON or as server-sent events.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Api, input};
use crate::error::{ApiError, Result};
use crate::http::{Body, Request, Response};
use crate::log::{LineKind, LineRef, Read};
use crate::task::{CountedReader, Task};

/// Pieces that wait for a slow caller; beyond these it waits in the log.
const PIECES: usize = 2;

/// The form of the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One JSON object per line.
    Lines,
    /// Server-sent events.
    Sse,
}

impl Api {
    pub(super) fn events(&self, request: &Request, id: u64) -> Result<Response> {
        let task = self.tasks.get(id)?;
        let headers = &request.head.headers;
        let accepts = |name: &str| {
            let mut values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
            values.any(|value| value.contains(name))
        };
        let form = if accepts("text/event-stream") { Form::Sse } else { Form::Lines };
        // Browsers send it when they connect again.
        let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let (mut since, mut follow) = (last, true);
        for (name, value) in input::query(request, &["since", "follow"])? {
            match (name, value) {
                ("since", value) => since = Some(value),
                ("follow", "true") => follow = true,
                ("follow", "false") => follow = false,
                (_, value) => {
                    return Err(ApiError::invalid(format_args!(
                        "follow: expected true or false, found {value:?}"
                    )));
                }
            }
        }
        let (position, is_gap) = position(&task, since)?;
        let counted = task.count_reader();
        let (sender, receiver) = mpsc::channel(PIECES);
        tokio::spawn(Reader { task, position, form, sender, _counted: counted }.run(follow, is_gap));
        let mut response = http::Response::new(Body::Stream(receiver));
        let kind = if form == Form::Sse { "text/event-stream" } else { "application/x-ndjson" };
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// Where a reader begins, and whether it may have missed lines of another run of the server.
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

/// One caller that reads the events of a task.
struct Reader {
    task: Arc<Task>,
    position: u64,
    form: Form,
    sender: mpsc::Sender<Bytes>,
    _counted: CountedReader,
}

impl Reader {
    async fn run(mut self, follow: bool, is_gap: bool) {
        let mut changes = self.task.log.changes();
        let mut out = Vec::new();
        if is_gap {
            self.line(&mut out, self.position, &json!({"lost": null, "by": "server"}).to_string());
        }
        loop {
            changes.mark_unchanged();
            match self.task.log.read(&mut self.position) {
                Read::Lines(lines) => {
                    for line in lines.iter() {
                        let text = content(&line);
                        self.line(&mut out, line.position + 1, &text);
                    }
                }
                Read::Lost(count) => {
                    let text = json!({"lost": count, "by": "reader"}).to_string();
                    self.line(&mut out, self.position, &text);
                }
                Read::Nothing if follow => {
                    tokio::select! {
                        changed = changes.changed() => if changed.is_err() { return },
                        () = self.sender.closed() => return,
                    }
                }
                Read::Nothing => return,
                Read::End => {
                    self.line(&mut out, self.position, &json!({"end": "stopped"}).to_string());
                    let _ = self.sender.send(Bytes::from(out)).await;
                    return;
                }
            }
            if !out.is_empty() && self.sender.send(Bytes::from(std::mem::take(&mut out))).await.is_err() {
                return;
            }
        }
    }

    /// Appends a line: `content` is a JSON object that gets the cursor after it.
    fn line(&self, out: &mut Vec<u8>, next: u64, content: &str) {
        let cursor = self.task.log.cursor(next);
        let rest = &content[1..];
        let text = match self.form {
            Form::Lines => format!("{{\"cursor\":\"{cursor}\",{rest}\n"),
            Form::Sse => format!("id: {cursor}\ndata: {{\"cursor\":\"{cursor}\",{rest}\n\n"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// A line as a JSON object without its cursor.
fn content(line: &LineRef) -> String {
    let text = String::from_utf8_lossy(line.text);
    let source = match line.source {
        Some(source) => format!("\"map\":{},", json!(source)),
        None => String::new(),
    };
    match line.kind {
        LineKind::Json => format!("{{{source}\"event\":{text}}}"),
        LineKind::Text => format!("{{{source}\"text\":{}}}", json!(text)),
        LineKind::Lost => format!("{{{source}\"lost\":{text},\"by\":\"kernel\"}}"),
        LineKind::Unknown => format!("{{{source}\"lost\":null,\"by\":{}}}", json!(text)),
    }
}
