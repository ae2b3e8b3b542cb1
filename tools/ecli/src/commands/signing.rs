//! `ecli keygen`, `sign` and `verify`.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use eunomia_fetch::Signature;

use crate::error::{Code, Failure, Result};
use crate::files::read_file;
use crate::options::{Keygen, Sign, Verify, transfer};
use crate::prompt::secret;
use crate::signature::{self, Secret, Trust};
use crate::{output, source};

/// Generates a key pair.
pub fn keygen(options: &Keygen) -> Result<ExitCode> {
    let password = if options.no_password { None } else { Some(new_password()?) };
    let id = signature::generate(&options.public, &options.secret, password)?;
    let (secret, public) = (options.secret.display(), options.public.display());
    output::print(format_args!("key {id}: secret key {secret}, public key {public}\n"))
}

fn new_password() -> Result<String> {
    let password = secret("Password for the secret key: ")?;
    if secret("Repeat the password: ")? != password {
        return Err(Failure::new(Code::Usage, "the passwords do not match"));
    }
    if password.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "the password is empty; use --no-password for a key without a password",
        ));
    }
    Ok(password)
}

/// Signs a file: writes FILE.minisig.
pub fn sign(options: &Sign) -> Result<ExitCode> {
    source::check_is_file(&options.file)?;
    let file = Path::new(&options.file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let bytes = read_file(&options.file)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let comment = options.comment.clone().unwrap_or_else(|| format!("timestamp:{now}\tfile:{name}\thashed"));
    let key = Secret::open(&options.secret)?;
    let password = key.is_locked().then(|| secret(&format!("Password for {}: ", options.secret.display())));
    let text = key.sign(password.transpose()?, &bytes, &comment)?;
    let path = eunomia_signature::path_of(file);
    std::fs::write(&path, text).map_err(|e| Failure::io(Code::Output, path.display(), &e))?;
    output::print(format_args!("{}\n", path.display()))
}

/// Verifies the signature of a program.
pub fn verify(options: &Verify) -> Result<ExitCode> {
    let trust = match &options.key {
        Some(key) => Trust::only(key)?,
        None => Trust::open(options.trust.as_deref())?,
    };
    let download = source::read(&options.prog, transfer(&options.transfer, Signature::Verified))?;
    let signer = trust.check(&options.prog, &download.bytes, download.signature.as_deref())?;
    output::print(format_args!("{}: {signer}\n", options.prog))
}
