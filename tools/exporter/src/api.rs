//! Handles requests: scrapes, and the routes of eunomia-exporter of eunomia-bpf.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use eunomia_agent::auth::Role;
use eunomia_agent::error::{ApiError, Result};
use eunomia_agent::http::{Body, Handler, Limits, Request, Response, error, json, read_body};
use http::{Method, StatusCode, header};
use serde_json::json;

use crate::access::Access;
use crate::change::Changes;
use crate::config::{File, Program};
use crate::engine::Engine;
use crate::format::Format;
use crate::scraper::Scraper;

/// The state for handling requests.
pub struct Api {
    /// The programs.
    pub engine: Arc<Engine>,
    /// Reads the metrics.
    pub scraper: Arc<Scraper>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Limits of requests.
    pub limits: Limits,
}

impl Handler for Api {
    fn handle(self: Arc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        Box::pin(async move {
            // A request that changes something is completed even if the caller closes the connection.
            let answer = tokio::spawn(async move { self.answer(request).await }).await;
            let answer = answer.unwrap_or_else(|failed| {
                Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", failed))
            });
            answer.unwrap_or_else(|refused| error(&refused))
        })
    }
}

impl Api {
    async fn answer(self: Arc<Self>, request: Request) -> Result<Response> {
        let path = request.head.uri.path().to_owned();
        match (&request.head.method, &*path) {
            (&Method::GET, "/metrics") => self.metrics(&request).await,
            (&Method::GET, "/-/healthy") => Ok(text("text/plain", Bytes::from_static(b"OK\n"))),
            (&Method::GET, "/-/ready") => self.ready().await,
            (&Method::GET, "/list") => {
                self.access.check(&request, Role::Read).await?;
                let list: Vec<_> =
                    self.engine.list().iter().map(|slot| json!({"id": slot.id, "name": slot.name})).collect();
                Ok(json(StatusCode::OK, json!(list).to_string()))
            }
            (&Method::POST, "/start") => {
                self.access.check(&request, Role::Operate).await?;
                self.start(request).await
            }
            (&Method::POST, "/stop") => {
                self.access.check(&request, Role::Operate).await?;
                self.stop(request).await
            }
            (&Method::POST, "/v1/config") => {
                self.access.check(&request, Role::Operate).await?;
                self.configure(request).await
            }
            (
                method,
                "/metrics" | "/list" | "/start" | "/stop" | "/v1/config" | "/-/healthy" | "/-/ready",
            ) => {
                let allowed =
                    if matches!(&*path, "/start" | "/stop" | "/v1/config") { "POST" } else { "GET" };
                let text = format!("{path} supports {allowed}, not {method}");
                Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", text).header("Allow", allowed))
            }
            _ => Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "Missing Page")
                .hint("the metrics are at /metrics")),
        }
    }

    /// Whether the events of all programs are read.
    async fn ready(&self) -> Result<Response> {
        let engine = Arc::clone(&self.engine);
        match blocking(move || engine.check_ready()).await? {
            Ok(()) => Ok(text("text/plain", Bytes::from_static(b"OK\n"))),
            Err(why) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why)),
        }
    }

    async fn metrics(&self, request: &Request) -> Result<Response> {
        self.access.check_scrape(request).await?;
        let accept = request.head.headers.get_all(header::ACCEPT).iter();
        let format = Format::of(accept.filter_map(|value| value.to_str().ok()));
        let scraper = Arc::clone(&self.scraper);
        let body = blocking(move || scraper.scrape(format)).await?;
        let body = body.map_err(|why| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", why))?;
        Ok(text(format.media_type(), body))
    }

    /// Starts a program. The body is an element of `programs`.
    async fn start(&self, request: Request) -> Result<Response> {
        let body = body(request, &self.limits).await?;
        let engine = Arc::clone(&self.engine);
        let id = blocking(move || Program::parse(&body).and_then(|program| engine.add(program))).await?;
        let id = id.map_err(|problem| ApiError::new(StatusCode::NOT_FOUND, "invalid", problem))?;
        Ok(json(StatusCode::OK, json!({ "id": id }).to_string()))
    }

    /// Applies a configuration. The body is the file; its paths must be absolute.
    async fn configure(&self, request: Request) -> Result<Response> {
        let body = body(request, &self.limits).await?;
        let engine = Arc::clone(&self.engine);
        let applied =
            blocking(move || File::parse_request(&body).and_then(|file| engine.apply(file))).await?;
        let changes = applied.map_err(|problem| {
            ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                format_args!("the configuration cannot be applied: {problem}"),
            )
        })?;
        let Changes { started, stopped, replaced, kept } = changes;
        let text =
            json!({"started": started, "stopped": stopped, "replaced": replaced, "kept": kept}).to_string();
        Ok(json(StatusCode::OK, text))
    }

    async fn stop(&self, request: Request) -> Result<Response> {
        let body = body(request, &self.limits).await?;
        let value: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let id = value["id"].as_u64();
        let id =
            id.ok_or_else(|| ApiError::invalid("the body must be {\"id\":N}, with a number of /list"))?;
        let engine = Arc::clone(&self.engine);
        match blocking(move || engine.remove(id)).await? {
            true => Ok(text("text/plain", Bytes::new())),
            false => {
                let text = format!("there is no program {id}");
                Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", text))
            }
        }
    }
}

/// Runs work that waits for locks or for the loader.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|failed| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", failed))
}

/// Reads the body of a request. Its type is one that a web page cannot send to another origin without a CORS preflight request.
async fn body(request: Request, limits: &Limits) -> Result<String> {
    let kind = request.head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
    if !kind.eq_ignore_ascii_case("application/json") {
        let text = format!("Content-Type is {kind:?}; expected application/json");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", text));
    }
    let bytes = read_body(request.body, limits).await?;
    String::from_utf8(bytes.to_vec()).map_err(|_| ApiError::invalid("the body is not UTF-8"))
}

fn text(media_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::Whole(Some(body)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
