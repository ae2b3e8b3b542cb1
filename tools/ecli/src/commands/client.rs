//! `ecli client`: sends requests to a server.

use std::process::ExitCode;

use eunomia::package::Package;
use eunomia_agent::client::{self, Client, Endpoint};
use http::Method;
use serde_json::{Map, Value, json};

use crate::error::{Code, Failure, Result, say};
use crate::files::read_file;
use crate::kind::Kind;
use crate::options::agent::{self, ClientCommand, Connection, SOCKET};
use crate::output::{self, Output};
use crate::source::{self, Request};

/// The variable with the token.
const TOKEN: &str = "EUNOMIA_TOKEN";

/// Sends the request.
pub fn run(options: &agent::Client) -> Result<ExitCode> {
    let client = connect(&options.connection)?;
    let task = |id: &u64| format!("/v1/tasks/{id}");
    match &options.command {
        ClientCommand::Start(start) => {
            let started = request(&client, Method::POST, "/v1/tasks", Some(&start_body(start)?))?;
            output::print(format_args!("{}\n", started["id"]))
        }
        ClientCommand::Stop(options) => {
            request(&client, Method::DELETE, &task(&options.id), None)?;
            Ok(ExitCode::SUCCESS)
        }
        ClientCommand::Pause(options) => {
            request(&client, Method::POST, &(task(&options.id) + "/pause"), None)?;
            Ok(ExitCode::SUCCESS)
        }
        ClientCommand::Resume(options) => {
            request(&client, Method::POST, &(task(&options.id) + "/resume"), None)?;
            Ok(ExitCode::SUCCESS)
        }
        ClientCommand::List(print) => {
            let tasks = request(&client, Method::GET, "/v1/tasks", None)?;
            output::print(if print.json { format!("{tasks}\n") } else { table(&tasks) })
        }
        ClientCommand::Update(options) => update(&client, options),
        ClientCommand::Stats(options) => {
            let stats = request(&client, Method::GET, &(task(&options.id) + "/stats"), None)?;
            output::print(if options.print.json { format!("{stats}\n") } else { counters(&stats) })
        }
        ClientCommand::Log(options) => log(&client, options),
        ClientCommand::Events(options) => events(&client, options),
    }
}

fn connect(options: &Connection) -> Result<Client> {
    let endpoint = options.endpoint.clone().unwrap_or_else(|| Endpoint::Local(SOCKET.into()));
    let token = match &options.token_file {
        Some(path) => {
            let bytes = read_file(&path.to_string_lossy())?;
            Some(String::from_utf8_lossy(&bytes).trim().to_owned())
        }
        None => std::env::var(TOKEN).ok().filter(|token| !token.is_empty()),
    };
    if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Failure::new(
            Code::Usage,
            "the token contains characters other than ASCII letters, digits and marks",
        ));
    }
    Ok(Client { endpoint, token })
}

fn request(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
    client.request(method, path, body).map_err(failed)
}

/// Converts an error of the server, which explains itself.
fn failed(failure: client::Failure) -> Failure {
    let body = match failure {
        client::Failure::Connection(text) => {
            return Failure::new(Code::Failed, text).at_end("; is ecli server running there?");
        }
        client::Failure::Refused(code, body) if body["message"].is_string() => (code, body),
        client::Failure::Refused(code, _) => {
            return Failure::new(
                Code::Failed,
                format_args!("the server returned {code}, without an explanation"),
            );
        }
    };
    let (number, body) = body;
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let code = match text("status") {
        "invalid" => Code::Usage,
        "package" | "type" | "not_found" => Code::Source,
        "unauthorized" | "forbidden" | "permission" => Code::Privilege,
        "verifier" | "attach" => Code::Kernel,
        "unsupported" if number == 422 => Code::Kernel,
        _ => Code::Failed,
    };
    let hint = if text("hint").is_empty() { String::new() } else { format!("; {}", text("hint")) };
    Failure::new(code, text("message")).at_end(hint).with_detail(text("detail"))
}

fn start_body(options: &agent::Start) -> Result<Value> {
    let Some((prog, args)) = options.prog.split_first() else {
        return Err(Failure::new(Code::Usage, "no program given"));
    };
    let mut variables = Map::new();
    for variable in &options.variable {
        let parsed = variable
            .split_once('=')
            .and_then(|(name, value)| Some((name.to_owned(), serde_json::from_str::<Value>(value).ok()?)));
        let Some((name, value)) = parsed else {
            let text = format!("--variable: {variable:?}: expected NAME=VALUE with a value in JSON");
            return Err(Failure::new(Code::Usage, text));
        };
        variables.insert(name, value);
    }
    let request = Request { prog, kind: options.prog_type, origin: &options.origin };
    let format = if options.json { "json" } else { "text" };
    Ok(json!({
        "package_base64": package(&request)?, "args": args, "variables": variables, "name": options.name,
        "format": format, "on_agent_death": options.on_agent_death,
    }))
}

/// Reads a package, in base64.
fn package(request: &Request) -> Result<String> {
    use base64::Engine;
    let program = source::open(request)?;
    let bytes = match program.kind {
        Kind::Json => program.bytes,
        Kind::Object => Package::from_object(&program.bytes, None).map_err(Failure::from)?.to_json(),
        Kind::Tar | Kind::Wasm => {
            let text = format!(
                "{}: {}; the server runs packages and BPF objects only",
                program.name,
                program.kind.describe()
            );
            return Err(Failure::new(Code::Source, text));
        }
    };
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn update(client: &Client, options: &agent::Update) -> Result<ExitCode> {
    let request = Request { prog: &options.prog, kind: None, origin: &options.origin };
    let body = json!({"package_base64": package(&request)?});
    let path = format!("/v1/tasks/{}/package", options.id);
    let replaced = match &options.if_digest {
        Some(digest) => client.replace_if(&path, &body, digest),
        None => client.request(Method::PUT, &path, Some(&body)),
    };
    let report = &replaced.map_err(failed)?["report"];
    output::print(format_args!("{report}\n"))
}

/// The lines that the former client printed: number, name, state.
fn table(tasks: &Value) -> String {
    let line = |task: &Value| {
        let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
        let mut state = text("status");
        if let Some(first) = state.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        format!("{} {} {state}\n", task["id"], text("name"))
    };
    tasks["tasks"].as_array().into_iter().flatten().map(line).collect()
}

fn counters(stats: &Value) -> String {
    let names =
        ["events", "bytes", "lost", "malformed", "replaced", "kernel_memory", "lines_kept", "readers"];
    let mut text: String =
        names.map(|name| format!("{:<14} {}\n", name.replace('_', " "), stats[name])).concat();
    for source in stats["sources"].as_array().into_iter().flatten() {
        let name = source["map"].as_str().unwrap_or_default();
        let known = match source["lost_known"].as_str() {
            Some("all") => "",
            Some("reported") => ", as far as reported",
            _ => ", not counted by this kernel",
        };
        text += &format!("{name}: {} events, {} lost{known}\n", source["events"], source["lost"]);
    }
    text
}

fn log(client: &Client, options: &agent::Log) -> Result<ExitCode> {
    let since = options.cursor.as_ref().map(|cursor| format!("&since={cursor}")).unwrap_or_default();
    check_cursor(options.cursor.as_deref())?;
    let path = format!("/v1/tasks/{}/events?follow={}{since}", options.id, options.follow);
    let mut output = Output::open(None)?;
    let read = client.lines(&path, |line| {
        match event_of(line) {
            Some(event) => output.line(event),
            None => note(line, &mut output),
        }
        output.flush()
    });
    output.finish()?;
    read.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The event in a line, as the server has written it: its members stay in their order.
fn event_of(line: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b",\"event\":";
    let start = line.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    line.get(start..line.len() - 1)
}

/// Prints a line that has no event in JSON: text, or what was lost.
fn note(line: &[u8], output: &mut Output) {
    let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
    if let Some(text) = line["text"].as_str() {
        return output.line(text.as_bytes());
    }
    match (&line["lost"], line["by"].as_str()) {
        (Value::Number(count), Some("kernel")) => say(format_args!("{count} events were lost in the kernel")),
        (Value::Number(count), _) => say(format_args!("{count} events were dropped before they were read")),
        (Value::Null, Some("server")) => {
            say("the server was started again; events before that may be missing");
        }
        _ => {}
    }
}

fn events(client: &Client, options: &agent::Events) -> Result<ExitCode> {
    check_cursor(options.since.as_deref())?;
    let since = options.since.as_ref().map(|cursor| format!("?since={cursor}")).unwrap_or_default();
    let path = format!("/v1/tasks/{}/events{since}", options.id);
    let mut output = Output::open(None)?;
    let read = client.lines(&path, |line| {
        output.line(line);
        output.flush()
    });
    output.finish()?;
    read.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// A cursor becomes a part of a path.
fn check_cursor(cursor: Option<&str>) -> Result<()> {
    match cursor.filter(|cursor| !cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')) {
        Some(cursor) => Err(Failure::new(Code::Usage, format_args!("{cursor:?} is not a cursor"))),
        None => Ok(()),
    }
}
