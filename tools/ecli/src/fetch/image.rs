//! Programs in OCI registries: an image of one layer that is the program, and one that signs it where there is a signature.
//!
//! The layout of WASM modules is that of eunomia-bpf, which other tools for WASM in registries read too.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use oci_client::annotations::ORG_OPENCONTAINERS_IMAGE_TITLE;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::runtime::Runtime;

use super::http::{self, USER_AGENT};
use super::progress::Progress;
use super::{Download, MAX_BYTES, Options, login};
use crate::error::{Code, Failure, Result};

const WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v1+json";
const PACKAGE: &str = "application/vnd.eunomia.package.v1+json";
const ARCHIVE: &str = "application/vnd.eunomia.package.v1+tar";
const CONFIG: &str = "application/vnd.eunomia.config.v1+json";
const SIGNATURE: &str = "application/vnd.eunomia.signature.v1.minisig";

/// What is in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A WASM module.
    Wasm,
    /// A JSON package.
    Package,
    /// A tar archive.
    Archive,
}

impl Content {
    fn media_type(self) -> &'static str {
        match self {
            Content::Wasm => WASM,
            Content::Package => PACKAGE,
            Content::Archive => ARCHIVE,
        }
    }
}

/// What is to be pushed.
pub struct Upload<'a> {
    /// The program.
    pub bytes: Vec<u8>,
    /// What it is.
    pub content: Content,
    /// The name of its file.
    pub title: &'a str,
    /// Its signature.
    pub signature: Option<String>,
    /// Notes on the image.
    pub annotations: BTreeMap<String, String>,
}

/// Downloads a program, and its signature if that is wanted.
pub fn pull(image: &Reference, options: Options) -> Result<Download> {
    let auth = login::find(image.resolve_registry())?;
    pull_as(image, &auth, options)
}

/// The same as a certain user.
pub fn pull_as(image: &Reference, auth: &RegistryAuth, options: Options) -> Result<Download> {
    let registry = Registry::new(image, options.timeout)?;
    let manifest = registry.wait(async |client| Ok(client.pull_image_manifest(image, auth).await?.0))?;
    let layer =
        |wanted: &[&str]| manifest.layers.iter().find(|layer| wanted.contains(&layer.media_type.as_str()));
    let Some(program) = layer(&[WASM, PACKAGE, ARCHIVE]) else {
        let types: Vec<_> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        let text = format!("{image}: no program in this image; its layers are {}", types.join(", "));
        return Err(Failure::new(Code::Source, text));
    };
    let bytes = registry.layer(program)?;
    let signature = layer(&[SIGNATURE]).filter(|_| options.signature);
    let signature = signature.map(|layer| registry.layer(layer)).transpose()?;
    Ok(Download { bytes, signature: signature.and_then(|text| String::from_utf8(text).ok()) })
}

/// Uploads a program and says which digest the image has.
pub fn push(image: &Reference, auth: &RegistryAuth, upload: Upload, timeout: Duration) -> Result<String> {
    let registry = Registry::new(image, timeout)?;
    let title = BTreeMap::from([(ORG_OPENCONTAINERS_IMAGE_TITLE.to_owned(), upload.title.to_owned())]);
    let mut layers = vec![ImageLayer::new(upload.bytes, upload.content.media_type().to_owned(), Some(title))];
    layers
        .extend(upload.signature.map(|text| ImageLayer::new(text.into_bytes(), SIGNATURE.to_owned(), None)));
    let config = if upload.content == Content::Wasm { WASM_CONFIG } else { CONFIG };
    let config = Config::new(b"{}".to_vec(), config.to_owned(), None);
    let manifest = OciImageManifest::build(&layers, &config, Some(upload.annotations));
    registry.wait(async |client| {
        client.auth(image, auth, RegistryOperation::Push).await?;
        client.push(image, &layers, config, auth, Some(manifest)).await.map(drop)?;
        client.fetch_manifest_digest(image, auth).await
    })
}

/// Whether a registry takes these credentials.
pub fn check(registry: &str, auth: &RegistryAuth, timeout: Duration) -> Result<()> {
    http::use_ring();
    let runtime = http::runtime()?;
    let scheme = if runtime.block_on(speaks_plain(registry, timeout)) { "http" } else { "https" };
    let url = format!("{scheme}://{registry}/v2/");
    // A registry that hands out tokens says who does; the repository of this reference need not exist.
    let probe: Reference = format!("{registry}/login")
        .parse()
        .map_err(|why| Failure::new(Code::Usage, format_args!("{registry}: not a registry: {why}")))?;
    let connection = Registry::new(&probe, timeout)?;
    let asked = connection.runtime.block_on(connection.client.auth(&probe, auth, RegistryOperation::Pull));
    asked.map_err(|error| failure(registry, &error))?;
    let RegistryAuth::Basic(user, password) = auth else { return Ok(()) };
    runtime.block_on(async {
        let client =
            reqwest::Client::builder().user_agent(USER_AGENT).connect_timeout(timeout).read_timeout(timeout);
        let failed = |error: reqwest::Error| {
            Failure::new(Code::Source, format_args!("{registry}: {}", http::reason(&error)))
        };
        let client = client.build().map_err(failed)?;
        let answer = client.get(&url).basic_auth(user, Some(password)).send().await.map_err(failed)?;
        let asks_for_token = answer
            .headers()
            .get(reqwest::header::WWW_AUTHENTICATE)
            .is_some_and(|challenge| challenge.as_bytes().to_ascii_lowercase().starts_with(b"bearer"));
        if answer.status().is_success() || asks_for_token {
            return Ok(());
        }
        let text = format!("{registry}: user {user:?} or the password is not accepted ({})", answer.status());
        Err(Failure::new(Code::Source, text))
    })
}

/// A registry that an image lies in.
struct Registry<'a> {
    image: &'a Reference,
    client: Client,
    runtime: Runtime,
}

impl Registry<'_> {
    fn new(image: &Reference, timeout: Duration) -> Result<Registry<'_>> {
        http::use_ring();
        let runtime = http::runtime()?;
        let host = image.resolve_registry();
        let protocol = if runtime.block_on(speaks_plain(host, timeout)) {
            ClientProtocol::HttpsExcept(vec![host.to_owned()])
        } else {
            ClientProtocol::Https
        };
        let variable = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_uppercase())).ok();
        let client = Client::try_from(ClientConfig {
            protocol,
            read_timeout: Some(timeout),
            connect_timeout: Some(timeout),
            user_agent: USER_AGENT,
            https_proxy: variable("https_proxy"),
            http_proxy: variable("http_proxy"),
            no_proxy: variable("no_proxy"),
            ..ClientConfig::default()
        });
        let client = client.map_err(|error| failure(image, &error))?;
        Ok(Registry { image, client, runtime })
    }

    /// Waits for what `ask` asks the registry.
    fn wait<'a, T, F>(&'a self, ask: impl FnOnce(&'a Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, OciDistributionError>>,
    {
        self.runtime.block_on(ask(&self.client)).map_err(|error| failure(self.image, &error))
    }

    /// The content of a layer; that it has the digest which the manifest tells is checked on the way.
    fn layer(&self, layer: &OciDescriptor) -> Result<Vec<u8>> {
        let image = self.image;
        let too_large = || Failure::new(Code::Source, format_args!("{image}: larger than {MAX_BYTES} bytes"));
        let len = usize::try_from(layer.size).ok().filter(|len| *len <= MAX_BYTES).ok_or_else(too_large)?;
        let progress = Progress::new(&image.to_string(), Some(len as u64));
        self.runtime.block_on(async {
            let stream = self.client.pull_blob_stream(image, layer).await;
            let mut stream = stream.map_err(|error| failure(image, &error))?.stream;
            let mut bytes = Vec::new();
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| Failure::io(Code::Source, image, &error))?;
                if bytes.len() + piece.len() > len {
                    return Err(Failure::new(
                        Code::Source,
                        format_args!("{image}: more than the {len} bytes it announces"),
                    ));
                }
                bytes.extend_from_slice(&piece);
                progress.at(bytes.len());
            }
            Ok(bytes)
        })
    }
}

/// Whether a registry speaks plain HTTP. Only one on this machine may; nobody can listen in on that.
async fn speaks_plain(registry: &str, timeout: Duration) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    if !matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
        return false;
    }
    let client = reqwest::Client::builder().user_agent(USER_AGENT).no_proxy().timeout(timeout).build();
    let Ok(client) = client else { return false };
    // A server that wants TLS answers 400, if at all.
    let answer = client.get(format!("http://{registry}/v2/")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success() || answer.status().as_u16() == 401)
}

fn failure(of: impl Display, error: &OciDistributionError) -> Failure {
    use OciDistributionError as E;
    let text = match error {
        E::RequestError(error) => http::reason(error),
        E::UnauthorizedError { .. }
        | E::AuthenticationFailure(_)
        | E::ServerError { code: 401 | 403, .. } => {
            let name = of.to_string();
            let registry = name.split('/').next().unwrap_or_default();
            format!("{registry} refuses access; `ecli login {registry}` if you have an account there")
        }
        E::ImageManifestNotFoundError(_) => "there is no such image".into(),
        E::RegistryError { envelope, .. } => {
            let reasons = envelope.errors.iter().map(|error| match error.message.as_str() {
                "" => format!("{:?}", error.code),
                message => message.to_owned(),
            });
            reasons.collect::<Vec<_>>().join(", ")
        }
        E::ServerError { code, .. } => format!("the registry answers {code}"),
        error => error.to_string(),
    };
    Failure::new(Code::Source, format_args!("{of}: {}", text.lines().collect::<Vec<_>>().join(" ")))
}
