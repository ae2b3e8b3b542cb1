//! The routes of ecli-server, as eunomia-bpf had it until 2026: `/task`, `/stop`, `/log`, `/pause`, `/resume`.
//!
//! Paths, bodies and replies are those of that server. Errors have the `message` of that server, and the other members
//! of all errors here.

use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use eunomia::Format;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Api, input, ok, origin, tasks};
use crate::error::{ApiError, Result};
use crate::http::{Peer, Request, Response};
use crate::log::{LineKind, Read};
use crate::spec::{Spec, expected};
use crate::task::{Status, Task};
use crate::tasks::Given;

/// The default and the maximum number of lines in a reply.
const LINES: u64 = 1000;
const MAX_LINES: u64 = 10_000;
/// Maximum number of callers per task whose cursors are stored.
const MAX_VIEWS: usize = 64;

impl Api {
    pub(super) fn former_list(&self) -> Response {
        ok(json!({"tasks": self.former_tasks()}).to_string())
    }

    fn former_tasks(&self) -> Vec<Value> {
        let one = |task: &Task| {
            let word = if task.current().status == Status::Running { "running" } else { "paused" };
            json!({"id": task.id, "name": task.spec.name, "status": word})
        };
        self.tasks.list().iter().map(|task| one(task)).collect()
    }

    pub(super) async fn former_start(&self, request: Request) -> Result<Response> {
        let origin = origin(&request);
        let object = input::object(request, &self.limits).await?;
        let package =
            input::decode("program_data_buf", object.get("program_data_buf").unwrap_or(&Value::Null))?;
        let spec = spec(&object)?;
        let (task, _) = self
            .blocking(move |all| {
                let (_, package, _) = all.package(Given::Bytes(package, None))?;
                tasks::start(all, spec, &package, origin)
            })
            .await?;
        Ok(ok(json!({"id": task.id, "task_list": {"tasks": self.former_tasks()}}).to_string()))
    }

    pub(super) async fn former_stop(&self, request: Request) -> Result<Response> {
        let id = tasks::id(&input::object(request, &self.limits).await?)?;
        self.blocking(move |all| all.stop(id)).await?;
        Ok(ok("{}".into()))
    }

    pub(super) async fn former_pause(&self, request: Request, on: bool) -> Result<Response> {
        let id = tasks::id(&input::object(request, &self.limits).await?)?;
        self.blocking(move |all| tasks::pause(all, id, on)).await?;
        Ok(ok(json!({"status": if on { "paused" } else { "running" }}).to_string()))
    }

    pub(super) async fn former_log(&self, request: Request) -> Result<Response> {
        let view = match request.peer {
            Peer::Local { uid } => format!("user {uid}"),
            Peer::Network(address) => address.ip().to_string(),
        };
        let object = input::object(request, &self.limits).await?;
        let number = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| expected(name, "a number", value)),
        };
        let task = self.tasks.get(tasks::id(&object)?)?;
        let (cursor, most) = (number("log_cursor")?, number("maximum_count")?.unwrap_or(LINES));
        let start = begin(&task, view, cursor);
        Ok(ok(Value::Array(lines(&task, start, most.min(MAX_LINES))).to_string()))
    }
}

/// Returns the position at which a caller continues. Cursors begin at 1. Lines up to the last cursor that the caller
/// sent are not returned to it again.
fn begin(task: &Task, view: String, cursor: Option<u64>) -> u64 {
    let mut views = task.views.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cursor) = cursor {
        if views.len() >= MAX_VIEWS && !views.contains_key(&view) {
            views.pop_first();
        }
        let known = views.entry(view).or_default();
        *known = (*known).max(cursor.min(task.log.next()));
        return *known;
    }
    views.get(&view).copied().unwrap_or(0)
}

fn lines(task: &Task, start: u64, most: u64) -> Vec<Value> {
    let (mut position, mut found) = (start, Vec::new());
    loop {
        match task.log.read(&mut position) {
            Read::Lines(lines) => {
                for line in lines.iter() {
                    if found.len() as u64 >= most {
                        return found;
                    }
                    let text = String::from_utf8_lossy(line.text);
                    let (log, kind) = match line.kind {
                        LineKind::Lost => (format!("{text} events were lost in the kernel"), "stderr"),
                        LineKind::Unknown => ("an unknown number of events is missing".into(), "stderr"),
                        _ => (text.into_owned(), "plain"),
                    };
                    let log = json!({"log": log, "timestamp": line.time, "log_type": kind});
                    found.push(json!({"cursor": line.position + 1, "log": log}));
                }
            }
            Read::Lost(_) => {}
            Read::Nothing | Read::End => return found,
        }
    }
}

fn spec(object: &Map<String, Value>) -> Result<Spec> {
    let kind = object.get("program_type").unwrap_or(&Value::Null);
    if kind == "wasm" {
        let text = "program_type: the server does not run WASM modules";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "unsupported", text));
    }
    if kind != "json" && kind != "tar" {
        return Err(expected("program_type", "\"json\" or \"tar\"", kind));
    }
    if object.get("btf_archive_path").is_some_and(|path| !path.is_null()) {
        return Err(ApiError::invalid("btf_archive_path: paths in requests are refused"));
    }
    let is_json = match object.get("export_json") {
        None | Some(Value::Null) => false,
        Some(value) => value.as_bool().ok_or_else(|| expected("export_json", "true or false", value))?,
    };
    let mut own = Map::new();
    for (name, theirs) in [("name", "program_name"), ("args", "extra_args")] {
        own.insert(name.into(), object.get(theirs).cloned().unwrap_or_default());
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut spec = Spec::from_json(&own, &format!("bpf-program-{seconds}"))?;
    spec.format = if is_json { Format::Json } else { Format::Text };
    Ok(spec)
}
