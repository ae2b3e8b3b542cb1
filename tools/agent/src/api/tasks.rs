//! `/v1/tasks`: start, look at, change and stop tasks.

use std::sync::Arc;

use eunomia::Vm;
use eunomia::vm::LostKnown;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Api, input, ok, origin};
use crate::error::{ApiError, Result};
use crate::http::{Request, Response, json as response};
use crate::loader::protocol::Origin;
use crate::spec::Spec;
use crate::task::{Status, Task};
use crate::tasks::{Tasks, describe_package};

/// The name of a task whose package has none.
const UNNAMED: &str = "task";

impl Api {
    pub(super) async fn describe(&self, request: Request) -> Result<Response> {
        let object = input::object(request, &self.limits).await?;
        input::only(&object, &input::PACKAGE)?;
        let package = input::package(&object)?;
        self.blocking(move |tasks| describe_package(&tasks.package(package)?.1)).await.map(ok)
    }

    pub(super) fn list(&self) -> Response {
        let tasks: Vec<Value> = self.tasks.list().iter().map(|task| task.to_json()).collect();
        ok(json!({"tasks": tasks}).to_string())
    }

    pub(super) async fn start(&self, request: Request) -> Result<Response> {
        let origin = origin(&request);
        let object = input::object(request, &self.limits).await?;
        let known = [
            "name",
            "package",
            "package_base64",
            "digest",
            "source",
            "signature",
            "args",
            "variables",
            "format",
            "on_agent_death",
            "restart",
            "limits",
            "sink",
        ];
        input::only(&object, &known)?;
        let package = input::package(&object)?;
        let (task, is_new) = self
            .blocking(move |tasks| {
                let (about, bytes, signature) = tasks.package(package)?;
                let name = about.meta.obj_name.trim_end_matches("_bpf");
                let spec = Spec::from_json(&object, if name.is_empty() { UNNAMED } else { name })?;
                start(tasks, spec, &bytes, Origin { signature, ..origin })
            })
            .await?;
        let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(response(code, task.to_json().to_string()))
    }

    pub(super) async fn stop(&self, id: u64) -> Result<Response> {
        self.blocking(move |tasks| tasks.stop(id)).await?;
        Ok(ok(json!({"id": id, "status": "stopped"}).to_string()))
    }

    pub(super) async fn pause(&self, id: u64, on: bool) -> Result<Response> {
        let task = self.blocking(move |tasks| pause(tasks, id, on)).await?;
        Ok(ok(task.to_json().to_string()))
    }

    pub(super) async fn replace(&self, request: Request, id: u64) -> Result<Response> {
        self.tasks.get(id)?;
        let (expected, origin) = (input::if_match(&request)?, origin(&request));
        let object = input::object(request, &self.limits).await?;
        input::only(&object, &["package", "package_base64", "digest", "source", "signature"])?;
        let package = input::package(&object)?;
        let (task, report) = self
            .blocking(move |tasks| {
                let (_, bytes, signature) = tasks.package(package)?;
                let origin = Origin { signature, ..origin };
                let (task, report) = tasks.replace(id, &bytes, origin, expected.as_deref())?;
                tasks.note_healthy_later(&task);
                Ok((task, report))
            })
            .await?;
        let report: Value = serde_json::from_str(&report).unwrap_or_default();
        Ok(ok(json!({"task": task.to_json(), "report": report}).to_string()))
    }

    pub(super) async fn inspect(&self, id: u64) -> Result<Response> {
        self.blocking(move |tasks| tasks.describe(id)).await.map(ok)
    }

    pub(super) async fn stats(&self, id: u64) -> Result<Response> {
        let task = self.tasks.get(id)?;
        if !task.with(|current| current.usage.is_null()) {
            // Without a loader, the last measurement is returned.
            let _ = self.blocking(|tasks| tasks.meter()).await;
        }
        let totals = task.totals();
        let vm = task.current().vm.clone();
        let (sources, memory) = match vm {
            Some(vm) => self.tasks.between_turns(|| Ok::<_, ApiError>((sources(&vm)?, memory(&vm)?)))?,
            None => (Vec::new(), 0),
        };
        let kept = task.log.next() - task.log.oldest();
        Ok(ok(json!({
            "id": id, "events": totals.events, "bytes": totals.bytes, "lost": totals.lost,
            "malformed": totals.malformed, "replaced": task.current().replaced,
            "kernel_memory": memory, "sources": sources, "lines": task.log.next(), "lines_kept": kept,
            "readers": task.readers(), "usage": task.current().usage,
        })
        .to_string()))
    }
}

/// The maps that events come from.
fn sources(vm: &Vm) -> Result<Vec<Value>> {
    let one = |index| {
        let source = vm.source_at(index)?;
        let known = match source.lost_known {
            LostKnown::All => "all",
            LostKnown::Reported => "reported",
            _ => "not_counted",
        };
        let (map, events, lost) = (source.name.to_string_lossy(), source.events, source.lost);
        Ok(json!({"map": map, "events": events, "lost": lost, "lost_known": known}))
    };
    (0..vm.source_count()?).map(one).collect()
}

/// The kernel memory of all maps when they are full, in bytes.
fn memory(vm: &Vm) -> Result<u64> {
    (0..vm.map_count()?).map(|index| Ok(vm.map_at(index)?.bytes)).sum()
}

/// Starts a task.
pub(super) fn start(
    tasks: &Arc<Tasks>,
    spec: Spec,
    package: &[u8],
    origin: Origin,
) -> Result<(Arc<Task>, bool)> {
    let started = tasks.start(spec, package, origin)?;
    if started.1 {
        tasks.note_healthy_later(&started.0);
    }
    Ok(started)
}

/// Pauses or resumes a task.
pub(super) fn pause(tasks: &Arc<Tasks>, id: u64, on: bool) -> Result<Arc<Task>> {
    let had_failed = matches!(tasks.get(id)?.current().status, Status::Failed(_));
    let task = tasks.pause(id, on)?;
    if had_failed {
        tasks.note_healthy_later(&task);
    }
    Ok(task)
}

/// The task of a body `{"id": N}`.
pub(super) fn id(object: &serde_json::Map<String, Value>) -> Result<u64> {
    let value = object.get("id").ok_or_else(|| ApiError::invalid("id is missing"))?;
    value.as_u64().ok_or_else(|| crate::spec::expected("id", "the number of a task", value))
}
