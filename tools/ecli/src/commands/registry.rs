//! `ecli pull`, `list`, `push`, `login` and `logout`: programs to and from where others find them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use eunomia::error::visible;
use serde_json::json;

use crate::error::{Code, Failure, Result};
use crate::fetch::credentials::Credentials;
use crate::fetch::image::{self, Content, Upload};
use crate::fetch::location::{self, Location};
use crate::fetch::{self, Download, Signature, credentials};
use crate::files::read_file;
use crate::kind::{Kind, kind_of};
use crate::options::{Account, List, Login, Logout, Pull, Push};
use crate::signature::{signature_beside, with_signature_suffix};
use crate::{output, prompt};

/// Downloads a program to a file, and its signature beside it.
pub fn pull(options: &Pull) -> Result<ExitCode> {
    let transfer = fetch::Options::new(&options.transfer, Signature::Saved);
    let download = match Location::parse(&options.prog)? {
        Location::Image(image) => {
            image::pull_as(&image, &account(&options.account, image.registry())?, transfer)?
        }
        place => fetch::open(&place, transfer)?.ok_or_else(|| {
            let text =
                format!("{}: already on this machine; a URL, a name or an image is wanted", options.prog);
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
        write(&with_signature_suffix(&file), signature.as_bytes())?;
    }
    let digest = fetch::sha256(&bytes);
    output::print(format_args!("{}: {} bytes, sha256={digest}\n", file.display(), bytes.len()))
}

/// Lists programs, a line each.
pub fn list(options: &List) -> Result<ExitCode> {
    let rows: Vec<(String, String)> = if options.repository {
        fetch::listed(fetch::Options::new(&options.transfer, Signature::Ignored))?
    } else {
        fetch::kept().into_iter().map(|entry| (entry.url, format!("{} bytes", entry.len))).collect()
    };
    if options.json {
        let row = |(name, about): &(String, String)| json!({"name": name, "about": about});
        return output::print(format_args!("{}\n", rows.iter().map(row).collect::<serde_json::Value>()));
    }
    // A row is a line, whatever a repository lists.
    let shown: Vec<_> = rows.iter().map(|(name, about)| (visible(name, b""), visible(about, b""))).collect();
    let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    output::print(shown.iter().map(|(name, about)| format!("{name:width$}  {about}\n")).collect::<String>())
}

/// Uploads a file as an image, with the signature that lies beside it.
pub fn push(options: &Push) -> Result<ExitCode> {
    let path = options.module.as_str();
    Location::file(path)?;
    let file = Path::new(path);
    let image = location::image(&options.image)?;
    let credentials = account(&options.account, image.registry())?;
    let bytes = read_file(path)?;
    let wrong = |why: String| Failure::new(Code::Source, format_args!("{path}: {why}"));
    let content = match kind_of(&bytes).map_err(wrong)? {
        Kind::Wasm => Content::Wasm,
        Kind::Json => Content::Package,
        Kind::Tar => Content::Archive,
        Kind::Object => {
            return Err(wrong("a bare object; make a package of it with ecc, and push that".into()));
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

/// Asks for credentials, tries them, and keeps them.
pub fn login(options: &Login) -> Result<ExitCode> {
    let registry = credentials::registry(&options.registry)?;
    let user = match &options.username {
        Some(user) => user.clone(),
        None => prompt::ask(&format!("User at {registry}: "))?,
    };
    let password = match &options.password {
        Some(password) => password.clone(),
        None if options.password_stdin => prompt::line_of_stdin()?,
        None => prompt::secret(&format!("Password of {user}: "))?,
    };
    image::check(&registry, &Credentials::Password(user.clone(), password.clone()), options.timeout)?;
    let place = credentials::store(&registry, &user, &password)?;
    output::print(format_args!("logged in to {registry} as {user}; the credentials are in {place}\n"))
}

/// Forgets credentials.
pub fn logout(options: &Logout) -> Result<ExitCode> {
    let registry = credentials::registry(&options.registry)?;
    let done =
        if credentials::forget(&registry)? { "logged out of" } else { "there were no credentials for" };
    output::print(format_args!("{done} {registry}\n"))
}

/// Who asks: as the options say, else as credentials were kept.
fn account(options: &Account, registry: &str) -> Result<Credentials> {
    match (&options.username, &options.password) {
        (Some(user), Some(password)) => Ok(Credentials::Password(user.clone(), password.clone())),
        (Some(user), None) => {
            Ok(Credentials::Password(user.clone(), prompt::secret(&format!("Password of {user}: "))?))
        }
        _ if options.prompt => {
            let user = prompt::ask(&format!("User at {registry}: "))?;
            let password = prompt::secret(&format!("Password of {user}: "))?;
            Ok(Credentials::Password(user, password))
        }
        _ => credentials::find(registry),
    }
}

/// Where a download goes: the last part of a URL, else what such files are called.
fn file_name(prog: &str, download: &Download) -> String {
    let usual = if download.bytes.starts_with(b"\0asm") { "app.wasm" } else { "package.json" };
    let path = prog.split_once("://").filter(|(scheme, _)| *scheme != "oci").map(|(_, rest)| rest);
    let path = path.and_then(|rest| rest.split(['?', '#']).next()?.split_once('/'));
    let last = path.and_then(|(_, path)| path.rsplit('/').next());
    last.filter(|name| !name.is_empty() && ![".", ".."].contains(name)).unwrap_or(usual).to_owned()
}

/// Writes a file whole or not at all; a device or a pipe as it comes.
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
            Failure::new(Code::Usage, format_args!("annotation {text:?}: KEY=VALUE is wanted"))
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}
