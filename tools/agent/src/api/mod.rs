//! Handles requests: authenticates the caller, finds the route, and calls one of the functions in this directory.

mod events;
mod first;
mod former;
mod input;
mod maps;
mod plan;
mod tasks;

use std::pin::Pin;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::json;

use crate::auth::Auth;
use crate::error::{ApiError, Result};
use crate::http::{Handler, Limits, Peer, Request, Response, error, json as response};
use crate::loader::protocol::{Caller, Origin};
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
    /// Whether the routes of the first server of eunomia-bpf are served.
    pub has_first: bool,
}

impl Handler for Api {
    fn handle(self: Arc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        Box::pin(async move {
            if request.head.method == Method::GET {
                return self.answer(request).await.unwrap_or_else(|refused| error(&refused));
            }
            // A request that changes something is completed and logged even if the caller closes the connection.
            let noted = tokio::spawn(self.note(request)).await;
            noted.unwrap_or_else(|failed| {
                error(&ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", failed))
            })
        })
    }
}

impl Api {
    /// Handles a request, and writes the result to the audit log before the caller gets it.
    async fn note(self: Arc<Self>, request: Request) -> Response {
        let who = origin(&request).who;
        let answer = self.answer(Request { names: Arc::clone(&request.names), ..request }).await;
        let text = answer.as_ref().err().map(|refused| refused.message.clone());
        let answer = answer.unwrap_or_else(|refused| error(&refused));
        let status = answer.status().as_u16();
        say!("server: {who}: {status}");
        let line = json!({"who": who, "status": status, "message": text});
        if let Err(failed) = self.blocking(move |tasks| tasks.note(&line)).await {
            say!("server: {}", failed.message);
        }
        answer
    }

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
            Call::Stats => self.stats(id).await,
            Call::Inspect => self.inspect(id).await,
            Call::Replace => self.replace(request, id).await,
            Call::Events => self.events(&request, id),
            Call::Maps => self.maps(id).await,
            Call::Map => self.map(&request, id).await,
            Call::Logs => Ok(ok(self.tasks.get(id)?.messages.to_json().to_string())),
            Call::FormerList => Ok(self.former_list()),
            Call::FormerStart => self.former_start(request).await,
            Call::FirstList => self.first_list(),
            Call::FirstStart => self.first_start(request).await,
            Call::FormerStop if self.has_first => self.first_stop(request).await,
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

/// Who sends a request.
fn origin(request: &Request) -> Origin {
    let caller = match request.peer {
        Peer::Local { uid: 0 } => Caller::Root,
        Peer::Local { .. } => Caller::Local,
        Peer::Network(_) => Caller::Network,
    };
    let names =
        if request.names.is_empty() { String::new() } else { format!(" ({})", request.names.join(", ")) };
    let (peer, method, path) = (request.peer, &request.head.method, request.head.uri.path());
    Origin { caller, who: format!("{peer}{names}: {method} {path}"), signature: None }
}

/// A response with JSON.
fn ok(text: String) -> Response {
    response(StatusCode::OK, text)
}
