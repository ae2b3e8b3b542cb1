//! The routes of the first server of eunomia-bpf, of 2022: `/start`, `/stop` and `/list`, with `--compat-e1`.
//!
//! The server's JSON library wrote an object as an array of names and values, and its clients expect such arrays.

use eunomia::Format;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Api, input, ok, origin, tasks};
use crate::error::{ApiError, Result};
use crate::http::{Request, Response, json as response, read_body};
use crate::loader::protocol::Origin;
use crate::spec::Spec;
use crate::tasks::{Given, Tasks};

impl Api {
    /// Refuses these routes unless an option enables them.
    fn check_first(&self, path: &str) -> Result<()> {
        match self.has_first {
            true => Ok(()),
            false => {
                let text = format!("there is no {path}");
                let hint = "ecli server --compat-e1 has the routes of eunomia-bpf 0.2; GET /v1/openapi.json describes all others";
                Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", text).hint(hint))
            }
        }
    }

    /// Starts the package that is the body.
    pub(super) async fn first_start(&self, request: Request) -> Result<Response> {
        self.check_first("/start")?;
        let origin = origin(&request);
        let body = read_body(request.body, &self.limits).await?;
        let started = self.blocking(move |all| {
            let (about, package, _) = all.package(Given::Bytes(body.to_vec(), None))?;
            let name = free_name(all, about.meta.obj_name.trim_end_matches("_bpf"));
            let spec = Spec { format: Format::Text, ..Spec::from_json(&Map::new(), &name)? };
            tasks::start(all, spec, &package, Origin { signature: None, ..origin })
        });
        match started.await {
            Ok((task, _)) => Ok(ok(json!(["status", "ok", "id", task.id]).to_string())),
            Err(error) if error.status == "package" => {
                Ok(response(StatusCode::NOT_FOUND, json!(["status", "error"]).to_string()))
            }
            Err(error) => {
                say!("server: /start: {}", error.message);
                Ok(ok(json!(["status", "error"]).to_string()))
            }
        }
    }

    /// Stops a task. The later routes of eunomia-bpf have the same path.
    pub(super) async fn first_stop(&self, request: Request) -> Result<Response> {
        let id = tasks::id(&input::untyped_object(request, &self.limits).await?)?;
        let word = match self.blocking(move |all| all.stop(id)).await {
            Ok(()) => "ok",
            Err(_) => "error",
        };
        Ok(ok(json!(["status", word]).to_string()))
    }

    pub(super) fn first_list(&self) -> Result<Response> {
        self.check_first("/list")?;
        let tasks = self.tasks.list();
        let tasks: Vec<Value> = tasks.iter().map(|task| json!([task.id, task.spec.name])).collect();
        Ok(ok(json!(["status", "ok", "list", tasks]).to_string()))
    }
}

/// Returns a name that no task has, because clients of that server can start the same package several times.
fn free_name(tasks: &Tasks, name: &str) -> String {
    let name = if name.is_empty() { "task" } else { name };
    let all = tasks.list();
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| all.iter().all(|task| task.spec.name != *name)).unwrap_or_default()
}
