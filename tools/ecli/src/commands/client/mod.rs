//! `ecli client`: sends requests to one server, or the same to several.

mod events;
mod package;
mod text;

use std::process::ExitCode;

use eunomia_agent::client::{self, Client, Endpoint};
use http::Method;
use serde_json::{Value, json};

use super::server::files;
use crate::error::{Code, Failure, Result};
use crate::files::read_file;
use crate::options::agent::{self, ClientCommand, Connection, SOCKET};
use crate::output;
use package::Body;

/// The environment variable with the token.
const TOKEN: &str = "EUNOMIA_TOKEN";

/// Sends the request to all servers at the same time.
pub fn run(options: &agent::Client) -> Result<ExitCode> {
    let token = token(&options.connection)?;
    let body = Body::of(&options.command)?;
    let endpoints = match options.connection.endpoint.as_slice() {
        [] => vec![Endpoint::Local(SOCKET.into())],
        given => given.to_vec(),
    };
    let is_one = endpoints.len() == 1;
    let connection = &options.connection;
    let (authority, certificate) = (connection.ca.clone(), files(&connection.cert, &connection.key));
    let servers = endpoints.into_iter().map(|endpoint| {
        let label = if is_one { String::new() } else { format!("{endpoint}: ") };
        let (token, authority, certificate) = (token.clone(), authority.clone(), certificate.clone());
        Server { client: Client { endpoint, token, authority, certificate }, label }
    });
    let servers: Vec<Server> = servers.collect();
    let run = |server: &Server| match server.run(&options.command, &body) {
        Err(failure) if !is_one => Err(failure.at(&server.client.endpoint)),
        result => result,
    };
    let results: Vec<Result<ExitCode>> = std::thread::scope(|scope| {
        let threads: Vec<_> = servers.iter().map(|server| scope.spawn(move || run(server))).collect();
        let crashed = || Failure::new(Code::Failed, "a thread has ended unexpectedly");
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(crashed()))).collect()
    });
    let mut last = Ok(ExitCode::SUCCESS);
    for result in results {
        match (&last, result) {
            (Err(_), Err(failure)) => failure.report(),
            (Ok(_), result) => last = result,
            _ => {}
        }
    }
    last
}

/// A server, and the text before each line of its output.
struct Server {
    client: Client,
    /// Empty if there is only one server.
    label: String,
}

impl Server {
    fn run(&self, command: &ClientCommand, body: &Body) -> Result<ExitCode> {
        match command {
            ClientCommand::Start(_) => {
                let started = self.request(Method::POST, "/v1/tasks", Some(&body.0))?;
                self.print(&format!("{}\n", started["id"]))
            }
            ClientCommand::Update(options) => self.update(options, body),
            ClientCommand::Plan(options) => self.plan(options, body),
            ClientCommand::Stop(options) => self.change(Method::DELETE, &options.task, ""),
            ClientCommand::Pause(options) => self.change(Method::POST, &options.task, "/pause"),
            ClientCommand::Resume(options) => self.change(Method::POST, &options.task, "/resume"),
            ClientCommand::List(print) => {
                self.show(self.request(Method::GET, "/v1/tasks", None)?, print, text::tasks)
            }
            ClientCommand::Stats(options) => self.get(options, "/stats", text::counters),
            ClientCommand::Inspect(options) => self.get(options, "/inspect", text::description),
            ClientCommand::Messages(options) => self.get(options, "/logs", text::messages),
            ClientCommand::Maps(options) => self.maps(options),
            ClientCommand::Log(options) => self.log(options),
            ClientCommand::Events(options) => self.events(options),
        }
    }

    /// The path of a task, given by its number or its name.
    fn task(&self, task: &str) -> Result<String> {
        if !task.is_empty() && task.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(format!("/v1/tasks/{task}"));
        }
        let tasks = self.request(Method::GET, "/v1/tasks", None)?;
        let mut all = tasks["tasks"].as_array().into_iter().flatten();
        match all.find(|known| known["name"] == task) {
            Some(known) => Ok(format!("/v1/tasks/{}", known["id"])),
            None => Err(Failure::new(Code::Source, format_args!("there is no task {task:?}"))),
        }
    }

    fn change(&self, method: Method, task: &str, action: &str) -> Result<ExitCode> {
        self.request(method, &(self.task(task)? + action), None)?;
        Ok(ExitCode::SUCCESS)
    }

    fn get(&self, options: &agent::Get, what: &str, text: impl Fn(&Value) -> String) -> Result<ExitCode> {
        let found = self.request(Method::GET, &(self.task(&options.task)? + what), None)?;
        self.show(found, &options.print, text)
    }

    /// Prints JSON or text.
    fn show(&self, value: Value, print: &agent::Print, text: impl Fn(&Value) -> String) -> Result<ExitCode> {
        self.print(&if print.json { format!("{value}\n") } else { text(&value) })
    }

    fn print(&self, text: &str) -> Result<ExitCode> {
        let labelled = text.split_inclusive('\n').map(|line| format!("{}{line}", self.label));
        output::print(labelled.collect::<String>())
    }

    fn update(&self, options: &agent::Update, body: &Body) -> Result<ExitCode> {
        let path = self.task(&options.task)? + "/package";
        let replaced = match &options.if_digest {
            Some(digest) => self.client.replace_if(&path, &body.0, digest),
            None => self.client.request(Method::PUT, &path, Some(&body.0)),
        };
        let report = &replaced.map_err(failed)?["report"];
        self.print(&format!("{report}\n"))
    }

    fn plan(&self, options: &agent::Plan, body: &Body) -> Result<ExitCode> {
        let mut body = body.0.clone();
        if let Some(task) = &options.task {
            let path = self.task(task)?;
            let id = path.rsplit('/').next().and_then(|id| id.parse::<u64>().ok());
            body["task"] = json!(id);
        }
        self.show(self.request(Method::POST, "/v1/plan", Some(&body))?, &options.print, text::plan)
    }

    /// The maps of a task, or all entries of one map.
    fn maps(&self, options: &agent::Maps) -> Result<ExitCode> {
        let path = self.task(&options.task)? + "/maps";
        let Some(map) = &options.map else {
            return self.show(self.request(Method::GET, &path, None)?, &options.print, text::maps);
        };
        let path = format!("{path}/{}", events::encoded(map));
        let mut after = String::new();
        loop {
            let page = self.request(Method::GET, &format!("{path}?limit=1000{after}"), None)?;
            let entries = page["entries"].as_array().into_iter().flatten();
            self.print(&entries.map(|entry| format!("{entry}\n")).collect::<String>())?;
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.client.request(method, path, body).map_err(failed)
    }
}

fn token(options: &Connection) -> Result<Option<String>> {
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
            "the token contains characters other than ASCII letters, digits and punctuation",
        ));
    }
    Ok(token)
}

/// Converts a failed request to an error with the server's message, hint and detail.
fn failed(failure: client::Failure) -> Failure {
    let body = match failure {
        client::Failure::Connection(text) => {
            return Failure::new(Code::Failed, text).at_end("; is ecli server running there?");
        }
        client::Failure::Refused(code, body) if body["message"].is_string() => (code, body),
        client::Failure::Refused(code, _) => {
            return Failure::new(
                Code::Failed,
                format_args!("the server returned the status code {code} without a message"),
            );
        }
    };
    let (number, body) = body;
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let code = match text("status") {
        "invalid" => Code::Usage,
        "package" | "type" | "not_found" => Code::Source,
        "unauthorized" | "forbidden" | "permission" | "policy" => Code::Privilege,
        "verifier" | "attach" => Code::Kernel,
        "unsupported" if number == 422 => Code::Kernel,
        _ => Code::Failed,
    };
    let hint = if text("hint").is_empty() { String::new() } else { format!("; {}", text("hint")) };
    Failure::new(code, text("message")).at_end(hint).with_detail(text("detail"))
}
