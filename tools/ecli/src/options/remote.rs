//! Options that have to do with other machines, and with whom to trust.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::fetch::{self, Signature};

/// How programs may come here, and whose.
#[derive(Args)]
pub struct Origin {
    #[command(flatten)]
    pub transfer: Transfer,

    /// Take nothing that no trusted key has signed
    #[arg(long)]
    pub require_signed: bool,

    /// The folder of trusted keys, *.pub [default: ~/.config/libeunomia/trusted and /etc/libeunomia/trusted]
    #[arg(long, value_name = "DIR", requires = "require_signed")]
    pub trust: Option<PathBuf>,
}

impl Origin {
    /// How to download.
    pub fn fetch_options(&self) -> fetch::Options {
        self.transfer.fetch_options(if self.require_signed {
            Signature::Checked
        } else {
            Signature::Unwanted
        })
    }
}

/// How downloads behave.
#[derive(Args)]
pub struct Transfer {
    /// Download again what has been downloaded before
    #[arg(short, long)]
    pub no_cache: bool,

    /// Give up when nothing comes for this time, or when all takes 20 times as long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
}

impl Transfer {
    /// The same for the downloader.
    pub fn fetch_options(&self, signature: Signature) -> fetch::Options {
        fetch::Options { no_cache: self.no_cache, timeout: self.timeout, signature }
    }
}

/// Who asks a registry.
#[derive(Args)]
pub struct Account {
    /// Ask for user and password
    #[arg(short = 'i', long, conflicts_with_all = ["username", "password"])]
    pub prompt: bool,

    /// The user [default: as `ecli login` or docker has kept it]
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,

    /// The password
    #[arg(short, long, value_name = "PASSWORD", requires = "username")]
    pub password: Option<String>,
}

#[derive(Args)]
pub struct Pull {
    /// A URL, a name or an OCI reference
    #[arg(value_name = "PROG")]
    pub prog: String,

    /// Where it goes [default: the last part of the URL, else app.wasm or package.json]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub transfer: Transfer,

    #[command(flatten)]
    pub account: Account,
}

#[derive(Args)]
pub struct List {
    /// What the repository has, which EUNOMIA_REPOSITORY names, in place of earlier downloads
    #[arg(short, long)]
    pub repository: bool,

    /// As JSON
    #[arg(short, long)]
    pub json: bool,

    #[command(flatten)]
    pub transfer: Transfer,
}

#[derive(Args)]
pub struct Push {
    /// Where it goes, as in ghcr.io/org/tool:tag
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// The program
    #[arg(short, long, value_name = "FILE", default_value = "app.wasm")]
    pub module: String,

    /// A note on the image; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,

    /// Give up when nothing comes for this time, or when all takes 20 times as long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,

    #[command(flatten)]
    pub account: Account,
}

#[derive(Args)]
pub struct Login {
    /// The registry, as in ghcr.io
    #[arg(value_name = "REGISTRY")]
    pub registry: String,

    /// The user [default: asked for]
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,

    /// The password [default: asked for]; others see it in the list of processes
    #[arg(short, long, value_name = "PASSWORD", requires = "username")]
    pub password: Option<String>,

    /// Read the password from standard input
    #[arg(long, conflicts_with = "password", requires = "username")]
    pub password_stdin: bool,

    /// Give up when nothing comes for this time, or when all takes 20 times as long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Logout {
    /// The registry, as in ghcr.io
    #[arg(value_name = "REGISTRY")]
    pub registry: String,
}

#[derive(Args)]
pub struct Keygen {
    /// Where the secret key goes
    #[arg(short, long, value_name = "FILE", default_value = "ecli.key")]
    pub secret: PathBuf,

    /// Where the public key goes
    #[arg(short, long, value_name = "FILE", default_value = "ecli.pub")]
    pub public: PathBuf,

    /// Do not protect the secret key by a password
    #[arg(long)]
    pub no_password: bool,
}

#[derive(Args)]
pub struct Sign {
    /// The program
    #[arg(value_name = "FILE")]
    pub file: String,

    /// The secret key, of `ecli keygen` or minisign
    #[arg(short, long, value_name = "FILE", default_value = "ecli.key")]
    pub secret: PathBuf,

    /// What is signed beside the file, and shown when it is checked [default: time and name]
    #[arg(short = 't', long, value_name = "TEXT")]
    pub comment: Option<String>,
}

#[derive(Args)]
pub struct Verify {
    /// The program: a file, a URL, a name or an OCI reference
    #[arg(value_name = "PROG")]
    pub prog: String,

    /// The only key to trust
    #[arg(short = 'p', long, value_name = "FILE", conflicts_with = "trust")]
    pub key: Option<PathBuf>,

    /// The folder of trusted keys, *.pub [default: ~/.config/libeunomia/trusted and /etc/libeunomia/trusted]
    #[arg(long, value_name = "DIR")]
    pub trust: Option<PathBuf>,

    #[command(flatten)]
    pub transfer: Transfer,
}
