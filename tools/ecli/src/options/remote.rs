//! Options of transfers, registries and signatures.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use eunomia_fetch::{Options, Signature};

use super::values::duration;

/// How a program is downloaded and whether it must be signed.
#[derive(Args, Clone)]
pub struct Origin {
    #[command(flatten)]
    pub transfer: Transfer,

    /// Require a valid signature from a trusted key
    #[arg(long)]
    pub require_signed: bool,

    /// Directory of trusted keys, *.pub [default: ~/.config/libeunomia/trusted and /etc/libeunomia/trusted]
    #[arg(long, value_name = "DIR", requires = "require_signed")]
    pub trust: Option<PathBuf>,
}

/// How downloads behave.
#[derive(Args, Clone)]
pub struct Transfer {
    /// Neither read nor write the cache of downloads
    #[arg(short, long)]
    pub no_cache: bool,

    /// Network idle timeout; all transfers together may take 20 times as long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
}

/// The options of a command that downloads.
pub fn transfer(given: &Transfer, signature: Signature) -> Options {
    Options { no_cache: given.no_cache, timeout: given.timeout, signature }
}

/// Credentials for a registry.
#[derive(Args)]
pub struct Account {
    /// Prompt for user and password
    #[arg(short = 'i', long, conflicts_with_all = ["username", "password"])]
    pub prompt: bool,

    /// User name [default: saved by `ecli login` or docker]
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,

    /// Password; visible to other users in the process list
    #[arg(short, long, value_name = "PASSWORD", requires = "username")]
    pub password: Option<String>,
}

#[derive(Args)]
pub struct Pull {
    /// URL, name or OCI image
    #[arg(value_name = "PROG")]
    pub prog: String,

    /// File to write [default: the last part of the URL; for an image or a name, app.wasm or package.json]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub transfer: Transfer,

    #[command(flatten)]
    pub account: Account,
}

#[derive(Args)]
pub struct List {
    /// List the programs in EUNOMIA_REPOSITORY instead of downloads
    #[arg(short, long)]
    pub repository: bool,

    /// Print JSON
    #[arg(short, long)]
    pub json: bool,

    #[command(flatten)]
    pub transfer: Transfer,
}

#[derive(Args)]
pub struct Push {
    /// Image to create, such as ghcr.io/org/tool:tag
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Program to upload: a WASM module, package or tar archive
    #[arg(short, long, value_name = "FILE", default_value = "app.wasm")]
    pub module: String,

    /// Annotation of the image; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,

    /// Network idle timeout; all transfers together may take 20 times as long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,

    #[command(flatten)]
    pub account: Account,
}

#[derive(Args)]
pub struct Login {
    /// Registry, such as ghcr.io
    #[arg(value_name = "REGISTRY")]
    pub registry: String,

    /// User name [default: prompt]
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,

    /// Password [default: prompt]; visible to other users in the process list
    #[arg(short, long, value_name = "PASSWORD", requires = "username")]
    pub password: Option<String>,

    /// Read the password from standard input
    #[arg(long, conflicts_with = "password", requires = "username")]
    pub password_stdin: bool,

    /// Network idle timeout; all transfers together may take 20 times as long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Logout {
    /// Registry, such as ghcr.io
    #[arg(value_name = "REGISTRY")]
    pub registry: String,
}

#[derive(Args)]
pub struct Keygen {
    /// File for the secret key
    #[arg(short, long, value_name = "FILE", default_value = "ecli.key")]
    pub secret: PathBuf,

    /// File for the public key
    #[arg(short, long, value_name = "FILE", default_value = "ecli.pub")]
    pub public: PathBuf,

    /// Do not encrypt the secret key with a password
    #[arg(long)]
    pub no_password: bool,
}

#[derive(Args)]
pub struct Sign {
    /// Program to sign
    #[arg(value_name = "FILE")]
    pub file: String,

    /// Secret key from `ecli keygen` or minisign
    #[arg(short, long, value_name = "FILE", default_value = "ecli.key")]
    pub secret: PathBuf,

    /// Trusted comment: signed with the file and printed by `ecli verify` [default: time and file name]
    #[arg(short = 't', long, value_name = "TEXT")]
    pub comment: Option<String>,
}

#[derive(Args)]
pub struct Verify {
    /// File, URL, name or OCI image
    #[arg(value_name = "PROG")]
    pub prog: String,

    /// Trust only this key
    #[arg(short = 'p', long, value_name = "FILE", conflicts_with = "trust")]
    pub key: Option<PathBuf>,

    /// Directory of trusted keys, *.pub [default: ~/.config/libeunomia/trusted and /etc/libeunomia/trusted]
    #[arg(long, value_name = "DIR")]
    pub trust: Option<PathBuf>,

    #[command(flatten)]
    pub transfer: Transfer,
}
