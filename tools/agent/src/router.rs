//! The routes: the function that handles a request, and the role that may send it.

use http::{Method, StatusCode};

use crate::auth::Role;
use crate::error::{ApiError, Result};

/// The functions that can be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The version of the server.
    Version,
    /// The description of the interface.
    OpenApi,
    /// Describes a package without running it.
    Describe,
    /// Reports what a start or a replace would do.
    Plan,
    /// All tasks.
    List,
    /// Starts a task.
    Start,
    /// One task.
    Get,
    /// Stops and removes a task.
    Stop,
    /// Detaches the programs of a task.
    Pause,
    /// Attaches the programs of a paused task again.
    Resume,
    /// Counters.
    Stats,
    /// Maps and programs of a running task.
    Inspect,
    /// Replaces the package of a task.
    Replace,
    /// Events as they come.
    Events,
    /// The maps of a task.
    Maps,
    /// The entries of a map.
    Map,
    /// The last warnings and errors about a task.
    Logs,
    /// All tasks, as the first server of eunomia-bpf has them.
    FirstList,
    /// Starts a task, as that server does.
    FirstStart,
    /// All tasks, as the former ecli-server has them.
    FormerList,
    /// Starts a task, as the former ecli-server does.
    FormerStart,
    /// Stops a task, as the former ecli-server does.
    FormerStop,
    /// Returns events of a task, as the former ecli-server does.
    FormerLog,
    /// Pauses a task, as the former ecli-server does.
    FormerPause,
    /// Resumes a task, as the former ecli-server does.
    FormerResume,
}

/// A route: method, path, who may call it, and what it calls. `{id}` is the number of a task, `{map}` the name of a map.
pub type Route = (&'static str, &'static str, Role, Call);

/// All routes. tools/agent/openapi.json describes them.
pub const ROUTES: [Route; 25] = [
    ("GET", "/v1/version", Role::Read, Call::Version),
    ("GET", "/v1/openapi.json", Role::Read, Call::OpenApi),
    ("POST", "/v1/describe", Role::Operate, Call::Describe),
    ("POST", "/v1/plan", Role::Operate, Call::Plan),
    ("GET", "/v1/tasks", Role::Read, Call::List),
    ("POST", "/v1/tasks", Role::Operate, Call::Start),
    ("GET", "/v1/tasks/{id}", Role::Read, Call::Get),
    ("DELETE", "/v1/tasks/{id}", Role::Operate, Call::Stop),
    ("POST", "/v1/tasks/{id}/pause", Role::Operate, Call::Pause),
    ("POST", "/v1/tasks/{id}/resume", Role::Operate, Call::Resume),
    ("GET", "/v1/tasks/{id}/stats", Role::Read, Call::Stats),
    ("GET", "/v1/tasks/{id}/inspect", Role::Operate, Call::Inspect),
    ("PUT", "/v1/tasks/{id}/package", Role::Operate, Call::Replace),
    ("GET", "/v1/tasks/{id}/events", Role::Read, Call::Events),
    ("GET", "/v1/tasks/{id}/maps", Role::Read, Call::Maps),
    ("GET", "/v1/tasks/{id}/maps/{map}", Role::Read, Call::Map),
    ("GET", "/v1/tasks/{id}/logs", Role::Read, Call::Logs),
    ("GET", "/task", Role::Read, Call::FormerList),
    ("POST", "/task", Role::Operate, Call::FormerStart),
    ("POST", "/stop", Role::Operate, Call::FormerStop),
    ("POST", "/log", Role::Read, Call::FormerLog),
    ("POST", "/pause", Role::Operate, Call::FormerPause),
    ("POST", "/resume", Role::Operate, Call::FormerResume),
    ("GET", "/list", Role::Read, Call::FirstList),
    ("POST", "/start", Role::Operate, Call::FirstStart),
];

/// Finds the route of a request, and the number of the task in its path (0 if there is none).
pub fn find(method: &Method, path: &str) -> Result<(&'static Route, u64)> {
    let matching: Vec<_> = ROUTES.iter().filter_map(|route| Some((route, matches(route.1, path)?))).collect();
    if matching.is_empty() {
        let text = format!("there is no {path}");
        let hint = "GET /v1/openapi.json describes all paths";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", text).hint(hint));
    }
    let allowed: Vec<&str> = matching.iter().map(|((method, ..), _)| *method).collect();
    match matching.into_iter().find(|((name, ..), _)| *name == method.as_str()) {
        Some((route, Ok(id))) => Ok((route, id)),
        Some((_, Err(text))) => {
            Err(ApiError::invalid(format_args!("{text:?} in the path is not the number of a task")))
        }
        None => {
            let allowed = allowed.join(", ");
            let text = format!("{path} supports {allowed}, not {method}");
            Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", text).header("Allow", allowed))
        }
    }
}

/// Matches a path with a pattern. Returns the number in the path, or the text that is not a number.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<Result<u64, &'a str>> {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    let mut id = Ok(0);
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return Some(id),
            (Some("{id}"), Some(part)) if !part.is_empty() => id = number(part).ok_or(part),
            (Some("{map}"), Some(part)) if !part.is_empty() => {}
            (Some(pattern), Some(part)) if pattern == part => {}
            _ => return None,
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, path: &str) -> Result<(Call, u64), (u16, String)> {
        let found = find(&method, path);
        found.map(|(route, id)| (route.3, id)).map_err(|error| (error.code.as_u16(), error.message))
    }

    #[test]
    fn each_route_is_found_by_its_method_and_path() {
        for (method, path, _, expected) in ROUTES {
            let id = if path.contains("{id}") { 17 } else { 0 };
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(
                call(method, &path.replace("{id}", "17").replace("{map}", "m")),
                Ok((expected, id)),
                "{path}"
            );
        }
        assert_eq!(call(Method::DELETE, "/v1/tasks/17"), Ok((Call::Stop, 17)));
        assert_eq!(call(Method::GET, "/v1/tasks/17/maps/a.b"), Ok((Call::Map, 17)));
    }

    #[test]
    fn who_may_only_read_cannot_occupy_the_loader() {
        let read = ROUTES.iter().filter(|route| route.2 == Role::Read).map(|route| route.3);
        let waits = [
            Call::Describe,
            Call::Plan,
            Call::Inspect,
            Call::Start,
            Call::Replace,
            Call::Stop,
            Call::Pause,
            Call::Resume,
            Call::FormerStart,
            Call::FirstStart,
            Call::FormerStop,
            Call::FormerPause,
            Call::FormerResume,
        ];
        assert!(read.into_iter().all(|call| !waits.contains(&call)));
    }

    #[test]
    fn other_requests_are_explained() {
        for path in [
            "/",
            "//v1/tasks",
            "/v1/tasks/",
            "/v1/task",
            "/v1/tasks/1/",
            "/v1/tasks/1/other",
            "/v1/tasks/1/stats/x",
            "/v1/tasks/1/maps/",
            "/v1/tasks/1/maps/a/b",
        ] {
            assert_eq!(call(Method::GET, path), Err((404, format!("there is no {path}"))));
        }
        let text = "/v1/tasks supports GET, POST, not DELETE";
        assert_eq!(call(Method::DELETE, "/v1/tasks"), Err((405, text.into())));
        for id in ["x", "-1", "+1", "01", "0", "99999999999999999999"] {
            let text = format!("{id:?} in the path is not the number of a task");
            assert_eq!(call(Method::GET, &format!("/v1/tasks/{id}/stats")), Err((400, text)));
        }
    }
}
