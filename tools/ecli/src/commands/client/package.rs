//! The bodies of requests that contain a program, which the client reads.

use eunomia::package::Package;
use serde_json::{Map, Value, json};

use crate::error::{Code, Failure, Result};
use crate::kind::Kind;
use crate::options::agent::{ClientCommand, Program, Start, Update};
use crate::source::{self, Request};

/// The body of a request; null if it has none.
pub struct Body(pub Value);

impl Body {
    /// Reads the program of a command.
    pub fn of(command: &ClientCommand) -> Result<Body> {
        Ok(Body(match command {
            ClientCommand::Start(options) => start(options)?,
            ClientCommand::Update(options) => update(options)?,
            ClientCommand::Plan(options) => program(&options.program)?,
            _ => Value::Null,
        }))
    }
}

fn start(options: &Start) -> Result<Value> {
    let mut body = program(&options.program)?;
    body["name"] = json!(options.name);
    body["format"] = json!(if options.json { "json" } else { "text" });
    body["on_agent_death"] = json!(options.on_agent_death);
    body["restart"] = json!(options.restart);
    body["limits"] = Value::Object(assignments("--limit", &options.limit)?);
    body["sink"] = match options.sink.as_deref() {
        Some(path) if path.starts_with('/') => {
            json!({"file": path, "max_mib": options.sink_max_mib, "keep": options.sink_keep})
        }
        word => json!(word),
    };
    Ok(body)
}

/// The members of a body that a start and a plan have in common.
fn program(options: &Program) -> Result<Value> {
    let Some((prog, args)) = options.prog.split_first() else {
        return Err(Failure::new(Code::Usage, "no program given"));
    };
    let variables = assignments("--variable", &options.variable)?;
    if options.remote {
        return Ok(json!({"source": prog, "args": args, "variables": variables}));
    }
    let request = Request { prog, kind: options.prog_type, origin: &options.origin };
    let (package, signature) = package(&request)?;
    Ok(json!({"package_base64": package, "signature": signature, "args": args, "variables": variables}))
}

/// Reads `NAME=VALUE` with values in JSON.
fn assignments(option: &str, given: &[String]) -> Result<Map<String, Value>> {
    let one = |text: &String| {
        let parsed = text
            .split_once('=')
            .and_then(|(name, value)| Some((name.to_owned(), serde_json::from_str::<Value>(value).ok()?)));
        parsed.ok_or_else(|| {
            let text = format!("{option}: {text:?}: expected NAME=VALUE with a value in JSON");
            Failure::new(Code::Usage, text)
        })
    };
    given.iter().map(one).collect()
}

/// Reads a package, in base64, and its signature.
fn package(request: &Request) -> Result<(String, Option<String>)> {
    use base64::Engine;
    let program = source::open_to_send(request)?;
    let (bytes, signature) = match program.kind {
        Kind::Json | Kind::Tar => (program.bytes, program.signature),
        // The signature is for the object, so it is not valid for the package that is sent.
        Kind::Object => (Package::from_object(&program.bytes, None).map_err(Failure::from)?.to_json(), None),
        Kind::Wasm => {
            let text = format!("{}: a WASM module, which the server does not run", program.name);
            return Err(Failure::new(Code::Source, text));
        }
    };
    Ok((base64::engine::general_purpose::STANDARD.encode(bytes), signature))
}

fn update(options: &Update) -> Result<Value> {
    let request = Request { prog: &options.prog, kind: None, origin: &options.origin };
    let (package, signature) = package(&request)?;
    Ok(json!({"package_base64": package, "signature": signature}))
}
