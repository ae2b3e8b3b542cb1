//! Programs in OCI registries: an image of one layer that is the program, and one that signs it where there is a signature.
//!
//! The layout of WASM modules is that of eunomia-bpf, which other tools for WASM in registries read too.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::http::Answer;
use super::login::{self, Credentials};
use super::reference::{self, Digest, Reference};
use super::registry::{Registry, cut};
use super::{Download, MAX_BYTES, MAX_SIGNATURE, Options, Signature};
use crate::error::{Failure, Result};

const WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v1+json";
const PACKAGE: &str = "application/vnd.eunomia.package.v1+json";
const ARCHIVE: &str = "application/vnd.eunomia.package.v1+tar";
const CONFIG: &str = "application/vnd.eunomia.config.v1+json";
const SIGNATURE: &str = "application/vnd.eunomia.signature.v1.minisig";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const TITLE: &str = "org.opencontainers.image.title";

/// Bytes of the largest manifest; the standard has registries take as many.
const MAX_MANIFEST: usize = 4 << 20;

/// Bytes of an answer that only says that something was done.
const MAX_NOTE: usize = 64 << 10;

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
    let credentials = login::find(image.registry())?;
    pull_as(image, &credentials, options)
}

/// The same as a certain user.
pub fn pull_as(image: &Reference, credentials: &Credentials, options: Options) -> Result<Download> {
    let registry = connect(image, credentials, "pull", options.timeout)?;
    let source = Source { image, registry };
    let layers = source.layers()?;
    let layer = |wanted: &[&str]| layers.iter().find(|layer| wanted.contains(&layer.media_type.as_str()));
    let Some(program) = layer(&[WASM, PACKAGE, ARCHIVE]) else {
        let types: Vec<_> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
        return Err(source
            .registry
            .failure(format_args!("no program in this image; its layers are {}", cut(&types.join(", ")))));
    };
    let bytes = source.blob(program, MAX_BYTES)?;
    let signature = layer(&[SIGNATURE]).filter(|_| options.signature != Signature::Unwanted);
    let signature = signature.map(|layer| source.blob(layer, MAX_SIGNATURE)).transpose()?;
    Ok(Download { bytes, signature: signature.and_then(|text| String::from_utf8(text).ok()) })
}

fn connect<'a>(
    image: &'a Reference,
    credentials: &'a Credentials,
    actions: &str,
    timeout: Duration,
) -> Result<Registry<'a>> {
    let scope = format!("repository:{}:{actions}", image.repository);
    let place = (image.registry(), image.host());
    Registry::new(image.to_string(), place, credentials, Some(scope), timeout)
}

/// Whether a registry takes these credentials.
pub fn check(registry: &str, credentials: &Credentials, timeout: Duration) -> Result<()> {
    Registry::new(registry.to_owned(), (registry, reference::host(registry)), credentials, None, timeout)?
        .check()
}

/// An image that is downloaded.
struct Source<'a> {
    image: &'a Reference,
    registry: Registry<'a>,
}

/// A part of an image.
struct Layer {
    media_type: String,
    digest: Digest,
    size: usize,
}

impl Source<'_> {
    fn wrong(&self, why: &str) -> Failure {
        self.registry.failure(format_args!("its manifest {why}"))
    }

    /// What the image's manifest lists. An index of manifests for several machines leads to that for this one.
    fn layers(&self) -> Result<Vec<Layer>> {
        let mut manifest = self.manifest(self.image.version(), self.image.digest.as_ref())?;
        if let Some(manifests) = manifest["manifests"].as_array() {
            let chosen = manifests
                .iter()
                .find(|entry| is_for_here(entry))
                .ok_or_else(|| self.wrong(&format!("has none for {}", std::env::consts::ARCH)))?;
            let digest = self.digest(chosen)?;
            manifest = self.manifest(&digest.to_string(), Some(&digest))?;
        }
        let layers = manifest["layers"].as_array().ok_or_else(|| self.wrong("lists no layers"))?;
        layers.iter().map(|layer| self.layer(layer)).collect()
    }

    /// The manifest of a version. That it has the digest by which it is asked for is checked here.
    fn manifest(&self, version: &str, digest: Option<&Digest>) -> Result<Value> {
        let path = format!("{}/manifests/{version}", self.image.repository);
        let accept = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        let request = self.registry.request(Method::GET, &path)?.header(ACCEPT, accept);
        let answer = self.registry.ask(request, MAX_MANIFEST)?;
        let bytes = self.content(answer)?;
        if let Some(digest) = digest {
            digest.check(&bytes).map_err(|why| self.wrong(&format!("is {why}")))?;
        }
        serde_json::from_slice(&bytes).map_err(|why| self.wrong(&format!("cannot be read: {why}")))
    }

    fn content(&self, answer: Answer) -> Result<Vec<u8>> {
        match answer.status {
            StatusCode::OK => Ok(answer.bytes),
            _ => Err(self.registry.refused(&answer)),
        }
    }

    fn layer(&self, layer: &Value) -> Result<Layer> {
        let media_type = layer["mediaType"].as_str().unwrap_or_default().to_owned();
        let size = layer["size"].as_u64().and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| self.wrong("has a layer without a size"))?;
        Ok(Layer { media_type, digest: self.digest(layer)?, size })
    }

    fn digest(&self, entry: &Value) -> Result<Digest> {
        let text = entry["digest"].as_str().unwrap_or_default();
        Digest::parse(text).map_err(|why| self.wrong(&format!("has {why}")))
    }

    /// The content of a layer, as long as announced, and with the digest that the manifest tells.
    fn blob(&self, layer: &Layer, most: usize) -> Result<Vec<u8>> {
        if layer.size > most {
            return Err(self.registry.failure(format_args!("larger than {most} bytes")));
        }
        let path = format!("{}/blobs/{}", self.image.repository, layer.digest);
        let answer = self.registry.ask(self.registry.request(Method::GET, &path)?, layer.size)?;
        let bytes = self.content(answer)?;
        layer.digest.check(&bytes).map_err(|why| self.registry.failure(why))?;
        Ok(bytes)
    }
}

/// Whether a manifest of an index is for machines like this one: programs in it are for any, or built for Linux.
fn is_for_here(entry: &Value) -> bool {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        arch => arch,
    };
    let platform = &entry["platform"];
    platform.is_null() || platform["os"] == "linux" && platform["architecture"] == arch
}

/// Uploads a program and says which digest the image has.
pub fn push(
    image: &Reference,
    credentials: &Credentials,
    upload: Upload,
    timeout: Duration,
) -> Result<String> {
    let registry = connect(image, credentials, "pull,push", timeout)?;
    let target = Target { image, registry };
    let config_type = if upload.content == Content::Wasm { WASM_CONFIG } else { CONFIG };
    let config = target.blob(config_type, b"{}".to_vec())?;
    let mut program = target.blob(upload.content.media_type(), upload.bytes)?;
    program["annotations"] = json!({ TITLE: upload.title });
    let signature = upload.signature.map(|text| target.blob(SIGNATURE, text.into_bytes())).transpose()?;
    let layers: Vec<Value> = [Some(program), signature].into_iter().flatten().collect();
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    if !upload.annotations.is_empty() {
        manifest["annotations"] = json!(upload.annotations);
    }
    target.manifest(manifest.to_string().into_bytes())
}

/// An image that is uploaded.
struct Target<'a> {
    image: &'a Reference,
    registry: Registry<'a>,
}

impl Target<'_> {
    /// Uploads a part unless the registry has it, and gives what a manifest says of it.
    fn blob(&self, media_type: &str, bytes: Vec<u8>) -> Result<Value> {
        let (digest, len) = (Digest::of(&bytes).to_string(), bytes.len());
        let blobs = format!("{}/blobs", self.image.repository);
        let head = self.registry.request(Method::HEAD, &format!("{blobs}/{digest}"))?;
        if self.registry.ask(head, MAX_NOTE)?.status != StatusCode::OK {
            let start = self.registry.request(Method::POST, &format!("{blobs}/uploads/"))?;
            let started = self.registry.ask(start.header(CONTENT_LENGTH, 0), MAX_NOTE)?;
            self.expect(StatusCode::ACCEPTED, &started)?;
            let put = self.registry.request_at(Method::PUT, &started, &[("digest", &digest)])?;
            let put = put.header(CONTENT_TYPE, "application/octet-stream").body(bytes);
            self.expect(StatusCode::CREATED, &self.registry.ask(put, MAX_NOTE)?)?;
        }
        Ok(json!({"mediaType": media_type, "digest": digest, "size": len}))
    }

    /// Uploads what holds the parts together, and gives its digest.
    fn manifest(&self, bytes: Vec<u8>) -> Result<String> {
        let digest = Digest::of(&bytes).to_string();
        let path = format!("{}/manifests/{}", self.image.repository, self.image.version());
        let put = self.registry.request(Method::PUT, &path)?.header(CONTENT_TYPE, MANIFEST).body(bytes);
        self.expect(StatusCode::CREATED, &self.registry.ask(put, MAX_NOTE)?)?;
        Ok(digest)
    }

    fn expect(&self, status: StatusCode, answer: &Answer) -> Result<()> {
        if answer.status == status { Ok(()) } else { Err(self.registry.refused(answer)) }
    }
}
