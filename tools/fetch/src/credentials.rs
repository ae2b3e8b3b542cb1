//! Credentials for registries, stored where docker stores them: in `$DOCKER_CONFIG/config.json` or
//! `~/.docker/config.json`, or by the credential helper that the file names.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::{Map, Value, json};

use crate::error::{Code, Failure, Result, say};
use crate::reference::is_registry;

/// The key under which docker stores the credentials of its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Credentials for a registry.
pub enum Credentials {
    /// No credentials.
    Anonymous,
    /// User name and password.
    Password(String, String),
    /// A refresh token.
    IdentityToken(String),
}

/// Advice if another user could modify the file.
const HINT: &str = "set DOCKER_CONFIG to a directory of your own";

/// Returns the stored credentials for a registry, or anonymous ones.
pub fn find(registry: &str) -> Result<Credentials> {
    let Some(path) = config_path() else { return Ok(Credentials::Anonymous) };
    // Checked before opening: a file of another user may be a FIFO, on which open() waits.
    if let Err(why) = eunomia_owner::check(&path) {
        say(format_args!("warning: {why}, so the credentials in {} are ignored; {HINT}", path.display()));
        return Ok(Credentials::Anonymous);
    }
    let file = match fs::File::open(&path) {
        Ok(file) => std::io::BufReader::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Credentials::Anonymous),
        Err(error) => return Err(Failure::io(Code::Source, path.display(), &error)),
    };
    match docker_credential::get_credential_from_reader(file, &key(registry)) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Credentials::Password(user, password)),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Credentials::IdentityToken(token)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(Credentials::Anonymous),
        Err(error) => {
            let text = error.to_string().lines().collect::<Vec<_>>().join(" ");
            Err(Failure::new(Code::Source, format_args!("{}: {registry}: {text}", path.display())))
        }
    }
}

/// Stores credentials and returns the location.
pub fn store(registry: &str, user: &str, password: &str) -> Result<String> {
    let mut config = Config::read()?;
    if let Some(helper) = config.helper(registry) {
        let credentials = json!({"ServerURL": key(registry), "Username": user, "Secret": password});
        run_helper(&helper, "store", &credentials.to_string())?;
        return Ok(format!("docker-credential-{helper}"));
    }
    let auth = STANDARD.encode(format!("{user}:{password}"));
    config.auths().insert(key(registry), json!({"auth": auth}));
    config.write()?;
    Ok(config.path.display().to_string())
}

/// Removes credentials. Returns whether there were any.
pub fn remove(registry: &str) -> Result<bool> {
    let mut config = Config::read()?;
    if let Some(helper) = config.helper(registry) {
        run_helper(&helper, "erase", &key(registry))?;
        return Ok(true);
    }
    let was_there = config.auths().remove(&key(registry)).is_some();
    if was_there {
        config.write()?;
    }
    Ok(was_there)
}

/// Parses the name of a registry, which may have a scheme or a path.
pub fn registry(text: &str) -> Result<String> {
    let rest = ["https://", "http://", "oci://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let host = rest.unwrap_or(text).split('/').next().unwrap_or_default();
    if !is_registry(host) {
        return Err(Failure::new(
            Code::Usage,
            format_args!("{text:?} is not a registry; expected a host such as ghcr.io"),
        ));
    }
    Ok(host.to_owned())
}

fn key(registry: &str) -> String {
    let is_hub = matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    if is_hub { DOCKER_HUB } else { registry }.to_owned()
}

fn config_path() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home)?;
    Some(folder.join("config.json"))
}

/// The configuration file of docker. Other settings in it are preserved.
struct Config {
    path: PathBuf,
    content: Map<String, Value>,
}

impl Config {
    fn read() -> Result<Config> {
        let path = config_path().ok_or_else(|| {
            Failure::new(Code::Failed, "cannot store credentials: neither DOCKER_CONFIG nor HOME is set")
        })?;
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::new(Code::Failed, format_args!("{}: {why}", path.display()))
        };
        private(&path)?;
        let content = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|why| wrong(&why))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
            Err(error) => return Err(Failure::io(Code::Failed, path.display(), &error)),
        };
        match content {
            Value::Object(content) => Ok(Config { path, content }),
            _ => Err(wrong(&"not a JSON object")),
        }
    }

    /// The helper that stores the credentials of a registry.
    fn helper(&self, registry: &str) -> Option<String> {
        let own = self.content.get("credHelpers").and_then(|helpers| helpers.get(key(registry)));
        let name = own.or_else(|| self.content.get("credsStore"))?.as_str()?;
        (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        auths.as_object_mut().expect("it is an object now")
    }

    /// Writes the file, readable by its owner only.
    fn write(&self) -> Result<()> {
        let failed = |error: std::io::Error| Failure::io(Code::Output, self.path.display(), &error);
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        private(folder)?;
        let draft = self.path.with_extension(format!("json.{}", std::process::id()));
        let text = format!("{:#}\n", Value::Object(self.content.clone()));
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&draft, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&draft);
            failed(error)
        })
    }
}

/// Refuses a file or directory that another user could modify.
fn private(path: &Path) -> Result<()> {
    eunomia_owner::check(path).map_err(|why| Failure::new(Code::Failed, format_args!("{why}; {HINT}")))
}

/// Runs a credential helper of docker: the verb is its argument, the data its standard input.
fn run_helper(name: &str, verb: &str, input: &str) -> Result<()> {
    let program = format!("docker-credential-{name}");
    let failed = |error: std::io::Error| Failure::io(Code::Failed, &program, &error);
    let child = Command::new(&program).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input has failed; its exit status reports that.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stdout);
    Err(Failure::new(Code::Failed, format_args!("{program} {verb}: {}", message.trim())))
}
