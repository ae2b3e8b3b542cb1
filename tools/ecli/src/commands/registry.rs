//! `ecli pull`, `list`, `push`, `login` and `logout`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use eunomia::error::visible;
use eunomia_fetch as fetch;
use eunomia_fetch::credentials::{self, Credentials};
use eunomia_fetch::image::{self, Content, Upload};
use eunomia_fetch::location::{self, Location};
use eunomia_fetch::{Download, Signature};
use eunomia_signature::path_of;
use serde_json::json;

use crate::error::{Code, Failure, Result};
use crate::files::read_file;
use crate::kind::{Kind, kind_of};
use crate::options::{Account, List, Login, Logout, Pull, Push, transfer};
use crate::signature::signature_beside;
use crate::source::{check_is_file, locate};
use crate::{output, prompt};

/// Downloads a program and its signature to files.
pub fn pull(options: &Pull) -> Result<ExitCode> {
    let transfer = transfer(&options.transfer, Signature::Saved);
    let download = match locate(&options.prog)? {
        Location::Image(image) => {
            image::pull_as(&image, &account(&options.account, image.registry())?, transfer)?
        }
        location => fetch::open(&location, transfer)?.ok_or_else(|| {
            let text = format!("{}: expected a URL, a name or an image, not a file", options.prog);
            Failure::new(Code::Usage, text)
        })?,
    };
    let file = match &options.output {
        Some(file) => file.clone(),
        None => file_name(&options.prog, &download).into(),
    };
    let Download { bytes, signature } = download;
    write(&file, &bytes)?;
    if let Some(signature) = signature {
        write(&path_of(&file), signature.as_bytes())?;
    }
    let digest = fetch::sha256(&bytes);
    output::print(format_args!("{}: {} bytes, sha256={digest}\n", file.display(), bytes.len()))
}

/// Lists programs, one per line.
pub fn list(options: &List) -> Result<ExitCode> {
    let rows: Vec<(String, String)> = if options.repository {
        fetch::listed(transfer(&options.transfer, Signature::Ignored))?
    } else {
        fetch::kept().into_iter().map(|entry| (entry.url, format!("{} bytes", entry.len))).collect()
    };
    if options.json {
        let row = |(name, about): &(String, String)| json!({"name": name, "about": about});
        return output::print(format_args!("{}\n", rows.iter().map(row).collect::<serde_json::Value>()));
    }
    // Control characters in the names of a repository must not break the lines.
    let shown: Vec<_> = rows.iter().map(|(name, about)| (visible(name, b""), visible(about, b""))).collect();
    let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    output::print(shown.iter().map(|(name, about)| format!("{name:width$}  {about}\n")).collect::<String>())
}

/// Uploads a file as an image, with its signature if there is one.
pub fn push(options: &Push) -> Result<ExitCode> {
    let path = options.module.as_str();
    check_is_file(path)?;
    let file = Path::new(path);
    let image = location::image(&options.image)?;
    let credentials = account(&options.account, image.registry())?;
    let bytes = read_file(path)?;
    let error = |why: String| Failure::new(Code::Source, format_args!("{path}: {why}"));
    let content = match kind_of(&bytes).map_err(error)? {
        Kind::Wasm => Content::Wasm,
        Kind::Json => Content::Package,
        Kind::Tar => Content::Archive,
        Kind::Object => {
            return Err(error("a BPF object; compile it to a package with ecc to push it".into()));
        }
    };
    let upload = Upload {
        bytes,
        content,
        title: file.file_name().and_then(|name| name.to_str()).unwrap_or(path),
        signature: signature_beside(file)?,
        annotations: annotations(&options.annotations)?,
    };
    let digest = image::push(&image, &credentials, upload, options.timeout)?;
    output::print(format_args!("{image}@{digest}\n"))
}

/// Asks for credentials, checks them, and stores them.
pub fn login(options: &Login) -> Result<ExitCode> {
    let registry = credentials::registry(&options.registry)?;
    let user = match &options.username {
        Some(user) => user.clone(),
        None => prompt::ask(&format!("User name for {registry}: "))?,
    };
    let password = match &options.password {
        Some(password) => password.clone(),
        None if options.password_stdin => prompt::line_of_stdin()?,
        None => prompt::secret(&format!("Password for {user}: "))?,
    };
    image::check(&registry, &Credentials::Password(user.clone(), password.clone()), options.timeout)?;
    let location = credentials::store(&registry, &user, &password)?;
    output::print(format_args!("logged in to {registry} as {user}; credentials stored in {location}\n"))
}

/// Removes credentials.
pub fn logout(options: &Logout) -> Result<ExitCode> {
    let registry = credentials::registry(&options.registry)?;
    let result = if credentials::remove(&registry)? { "logged out of" } else { "no credentials for" };
    output::print(format_args!("{result} {registry}\n"))
}

/// The credentials that the options specify, or else the stored ones.
fn account(options: &Account, registry: &str) -> Result<Credentials> {
    match (&options.username, &options.password) {
        (Some(user), Some(password)) => Ok(Credentials::Password(user.clone(), password.clone())),
        (Some(user), None) => {
            Ok(Credentials::Password(user.clone(), prompt::secret(&format!("Password for {user}: "))?))
        }
        _ if options.prompt => {
            let user = prompt::ask(&format!("User name for {registry}: "))?;
            let password = prompt::secret(&format!("Password for {user}: "))?;
            Ok(Credentials::Password(user, password))
        }
        _ => Ok(credentials::find(registry)?),
    }
}

/// The file name of a download: the last part of a URL, or else the usual name of such files.
fn file_name(prog: &str, download: &Download) -> String {
    let usual = if download.bytes.starts_with(b"\0asm") { "app.wasm" } else { "package.json" };
    let path = prog.split_once("://").filter(|(scheme, _)| *scheme != "oci").map(|(_, rest)| rest);
    let path = path.and_then(|rest| rest.split(['?', '#']).next()?.split_once('/'));
    let last = path.and_then(|(_, path)| path.rsplit('/').next());
    last.filter(|name| !name.is_empty() && ![".", ".."].contains(name)).unwrap_or(usual).to_owned()
}

/// Writes a file atomically, but a device or a pipe directly.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let usual = fs::Permissions::from_mode(0o666);
    let whole = || {
        let mut draft = tempfile::Builder::new().permissions(usual).tempfile_in(folder)?;
        draft.write_all(bytes)?;
        draft.persist(file).map(drop).map_err(|failed| failed.error)
    };
    let is_special = fs::metadata(file).is_ok_and(|there| !there.is_file());
    let written = if is_special { fs::write(file, bytes) } else { whole() };
    written.map_err(|error| Failure::io(Code::Output, file.display(), &error))
}

fn annotations(given: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            Failure::new(Code::Usage, format_args!("annotation {text:?}: expected KEY=VALUE"))
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}
