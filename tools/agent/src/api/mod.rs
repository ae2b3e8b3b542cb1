//! Answers requests: authenticates the caller, finds the route, and calls one of the functions of the files here.

mod events;
mod former;
mod input;
mod line;
mod maps;
mod plan;
mod tasks;

use std::pin::Pin;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::json;

use crate::auth::Auth;
use crate::error::{ApiError, Result};
use crate::http::{Handler, Limits, Request, Response, error, json as response};
use crate::router::{self, Call};
use crate::tasks::Tasks;

/// The description of the interface.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// The state for handling requests.
pub struct Api {
    /// All tasks.
    pub tasks: Arc<Tasks>,
    /// The roles of callers.
    pub auth: Arc<Auth>,
    /// Limits of requests.
    pub limits: Limits,
}

impl Handler for Api {
    fn handle(self: Arc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        Box::pin(async move {
            let (peer, method) = (request.peer, request.head.method.clone());
            let path = request.head.uri.path().to_owned();
            let answer = self.answer(request).await;
            let answer = answer.unwrap_or_else(|refused| error(&refused));
            if method != Method::GET {
                eprintln!("server: {peer}: {method} {path}: {}", answer.status().as_u16());
            }
            answer
        })
    }
}

impl Api {
    async fn answer(&self, request: Request) -> Result<Response> {
        let role = self.auth.role(request.peer, &request.names, &request.head.headers)?;
        let ((_, _, needed, call), id) = router::find(&request.head.method, request.head.uri.path())?;
        if role < *needed {
            let text = format!("this needs the role {}; you have {}", needed.word(), role.word());
            return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", text)
                .hint("root may do everything over the unix socket; tokens can have any role"));
        }
        match call {
            Call::Version => Ok(self.version()),
            Call::OpenApi => Ok(ok(OPENAPI.to_owned())),
            Call::Describe => self.describe(request).await,
            Call::Plan => self.plan(request).await,
            Call::List => Ok(self.list()),
            Call::Start => self.start(request).await,
            Call::Get => Ok(ok(self.tasks.get(id)?.to_json().to_string())),
            Call::Stop => self.stop(id).await,
            Call::Pause => self.pause(id, true).await,
            Call::Resume => self.pause(id, false).await,
            Call::Stats => self.stats(id),
            Call::Inspect => self.inspect(id).await,
            Call::Replace => self.replace(request, id).await,
            Call::Events => self.events(&request, id),
            Call::Maps => self.maps(id).await,
            Call::Map => self.map(&request, id).await,
            Call::Logs => Ok(ok(self.tasks.get(id)?.messages.to_json().to_string())),
            Call::FormerList => Ok(self.former_list()),
            Call::FormerStart => self.former_start(request).await,
            Call::FormerStop => self.former_stop(request).await,
            Call::FormerLog => self.former_log(request).await,
            Call::FormerPause => self.former_pause(request, true).await,
            Call::FormerResume => self.former_pause(request, false).await,
        }
    }

    fn version(&self) -> Response {
        let about = self.tasks.loader().about();
        let loader = about.map(|(process, version)| json!({"process": process, "version": version}));
        ok(json!({"version": env!("CARGO_PKG_VERSION"), "api": 1, "loader": loader}).to_string())
    }

    /// Runs work that blocks. It is completed even if the caller closes the connection.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Tasks>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tasks = Arc::clone(&self.tasks);
        let done = tokio::task::spawn_blocking(move || work(&tasks)).await;
        done.unwrap_or_else(|error| Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error)))
    }
}

/// A response with JSON.
fn ok(text: String) -> Response {
    response(StatusCode::OK, text)
}
