//! The form of all errors: a JSON object with status, message, detail and hint.

use std::fmt::Display;

use ::http::StatusCode;
use eunomia::Status;
use serde_json::json;

use crate::loader::protocol::{Failure, REFUSED};

/// The reason why a request was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The status of the HTTP response.
    pub code: StatusCode,
    /// A fixed word, for programs.
    pub status: &'static str,
    /// One line for the user.
    pub message: String,
    /// Many lines, such as the log of the verifier; or none.
    pub detail: String,
    /// Advice about it; may be empty.
    pub hint: String,
    /// Further headers of the response.
    pub headers: Vec<(&'static str, String)>,
}

/// `Result` with an [`ApiError`].
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// An error with a one-line message.
    pub fn new(code: StatusCode, status: &'static str, message: impl Display) -> ApiError {
        let message = message.to_string();
        ApiError { code, status, message, detail: String::new(), hint: String::new(), headers: Vec::new() }
    }

    /// The request is malformed.
    pub fn invalid(message: impl Display) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// There is no connection to the loader at the moment.
    pub fn loader_lost() -> ApiError {
        let text = "the loader has ended; it is being started again";
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, LOADER_LOST, text);
        error.hint("try again").header("Retry-After", 1)
    }

    /// Whether the connection to the loader was lost.
    pub fn is_loader_lost(&self) -> bool {
        self.status == LOADER_LOST
    }

    /// Sets the hint.
    pub fn hint(self, hint: impl Display) -> ApiError {
        ApiError { hint: hint.to_string(), ..self }
    }

    /// Adds a header to the response.
    pub fn header(mut self, name: &'static str, value: impl Display) -> ApiError {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The body of the response.
    pub fn to_json(&self) -> String {
        let (status, message, detail, hint) = (self.status, &self.message, &self.detail, &self.hint);
        json!({"status": status, "message": message, "detail": detail, "hint": hint}).to_string()
    }
}

impl From<eunomia::Error> for ApiError {
    fn from(error: eunomia::Error) -> ApiError {
        Failure::from(error).into()
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        let Failure { status, message, detail, hint } = failure;
        if status == REFUSED {
            return ApiError::new(StatusCode::FORBIDDEN, "policy", message).hint(hint);
        }
        let case = CASES.iter().find(|(case, ..)| *case as i32 == status);
        let (code, word) = case.map_or((500, "internal"), |(_, code, word)| (*code, *word));
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        ApiError { detail, hint, ..ApiError::new(code, word, message) }
    }
}

/// The status of [`ApiError::loader_lost`].
const LOADER_LOST: &str = "loader";

/// The HTTP status for each status of the library; all others are 500, internal.
const CASES: [(Status, u16, &str); 12] = [
    (Status::Inval, 400, "invalid"),
    (Status::Type, 422, "type"),
    (Status::Package, 422, "package"),
    (Status::NotFound, 422, "not_found"),
    (Status::Unsupported, 422, "unsupported"),
    (Status::Verifier, 422, "verifier"),
    (Status::Attach, 422, "attach"),
    (Status::Wasm, 422, "wasm"),
    (Status::State, 409, "conflict"),
    (Status::Busy, 409, "conflict"),
    (Status::NoMem, 507, "no_memory"),
    (Status::Perm, 500, "permission"),
];
