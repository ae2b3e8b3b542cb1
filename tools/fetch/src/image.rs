//! Programs as OCI images: one layer is the program, another one its signature if there is one.
//!
//! Images of WASM modules have the layout of eunomia-bpf, which other tools for WASM can read.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::credentials::{self, Credentials};
use crate::download::{Download, MAX_BYTES, MAX_SIGNATURE, Options, Signature};
use crate::error::{Failure, Result};
use crate::http::Reply;
use crate::reference::{self, Digest, Reference};
use crate::registry::{Registry, shorten};

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

/// Size limit of a manifest. The OCI specification requires registries to accept as much.
const MAX_MANIFEST: usize = 4 << 20;

/// Size limit of a reply without content.
const MAX_REPLY: usize = 64 << 10;

/// The kind of program in an image.
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

/// A program to push.
pub struct Upload<'a> {
    /// The program.
    pub bytes: Vec<u8>,
    /// Its kind.
    pub content: Content,
    /// The name of its file.
    pub title: &'a str,
    /// Its signature.
    pub signature: Option<String>,
    /// Annotations of the image.
    pub annotations: BTreeMap<String, String>,
}

/// Downloads a program with the saved credentials.
pub fn pull(image: &Reference, options: Options) -> Result<Download> {
    let credentials = credentials::find(image.registry())?;
    pull_as(image, &credentials, options)
}

/// Downloads a program, and its signature unless the options ignore it.
pub fn pull_as(image: &Reference, credentials: &Credentials, options: Options) -> Result<Download> {
    let registry = connect(image, credentials, "pull", options.timeout)?;
    let source = Source { image, registry };
    let layers = source.layers()?;
    let layer = |types: &[&str]| layers.iter().find(|layer| types.contains(&layer.media_type.as_str()));
    let Some(program) = layer(&[WASM, PACKAGE, ARCHIVE]) else {
        let types: Vec<_> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
        return Err(source.registry.failure(format_args!(
            "the image has no program; its layers are {}",
            shorten(&types.join(", "))
        )));
    };
    let bytes = source.blob(program, MAX_BYTES)?;
    let signature = layer(&[SIGNATURE]).filter(|_| options.signature != Signature::Ignored);
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
    let registry = (image.registry(), image.host());
    Registry::new(image.to_string(), registry, credentials, Some(scope), timeout)
}

/// Checks that a registry accepts the credentials.
pub fn check(registry: &str, credentials: &Credentials, timeout: Duration) -> Result<()> {
    Registry::new(registry.to_owned(), (registry, reference::host(registry)), credentials, None, timeout)?
        .check()
}

/// An image to download.
struct Source<'a> {
    image: &'a Reference,
    registry: Registry<'a>,
}

/// A layer of an image.
struct Layer {
    media_type: String,
    digest: Digest,
    size: usize,
}

impl Source<'_> {
    fn invalid(&self, why: &str) -> Failure {
        self.registry.failure(format_args!("invalid manifest: {why}"))
    }

    /// The layers in the manifest. An index is resolved to the manifest for this machine.
    fn layers(&self) -> Result<Vec<Layer>> {
        let mut manifest = self.manifest(self.image.version(), self.image.digest.as_ref())?;
        if let Some(manifests) = manifest["manifests"].as_array() {
            let chosen = manifests
                .iter()
                .find(|entry| is_for_here(entry))
                .ok_or_else(|| self.invalid(&format!("no entry for {}", std::env::consts::ARCH)))?;
            let digest = self.digest(chosen)?;
            manifest = self.manifest(&digest.to_string(), Some(&digest))?;
        }
        let layers = manifest["layers"].as_array().ok_or_else(|| self.invalid("no layers"))?;
        layers.iter().map(|layer| self.layer(layer)).collect()
    }

    /// Downloads the manifest of a version and verifies its digest.
    fn manifest(&self, version: &str, digest: Option<&Digest>) -> Result<Value> {
        let path = format!("{}/manifests/{version}", self.image.repository);
        let accept = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        let request = self.registry.request(Method::GET, &path)?.header(ACCEPT, accept);
        let reply = self.registry.send(request, MAX_MANIFEST)?;
        let bytes = self.content(reply)?;
        if let Some(digest) = digest {
            digest.check(&bytes).map_err(|why| self.invalid(&why))?;
        }
        serde_json::from_slice(&bytes).map_err(|why| self.invalid(&why.to_string()))
    }

    fn content(&self, reply: Reply) -> Result<Vec<u8>> {
        match reply.status {
            StatusCode::OK => Ok(reply.bytes),
            _ => Err(self.registry.refused(&reply)),
        }
    }

    fn layer(&self, layer: &Value) -> Result<Layer> {
        let media_type = layer["mediaType"].as_str().unwrap_or_default().to_owned();
        let size = layer["size"].as_u64().and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| self.invalid("a layer has no size"))?;
        Ok(Layer { media_type, digest: self.digest(layer)?, size })
    }

    fn digest(&self, entry: &Value) -> Result<Digest> {
        let text = entry["digest"].as_str().unwrap_or_default();
        Digest::parse(text).map_err(|why| self.invalid(&why))
    }

    /// Downloads a layer and verifies its digest.
    fn blob(&self, layer: &Layer, max_size: usize) -> Result<Vec<u8>> {
        if layer.size > max_size {
            return Err(self.registry.failure(format_args!("larger than {max_size} bytes")));
        }
        let path = format!("{}/blobs/{}", self.image.repository, layer.digest);
        let reply = self.registry.send(self.registry.request(Method::GET, &path)?, layer.size)?;
        let bytes = self.content(reply)?;
        layer.digest.check(&bytes).map_err(|why| self.registry.failure(why))?;
        Ok(bytes)
    }
}

/// Whether an entry of an index is for this machine, or for any.
fn is_for_here(entry: &Value) -> bool {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        arch => arch,
    };
    let platform = &entry["platform"];
    platform.is_null() || platform["os"] == "linux" && platform["architecture"] == arch
}

/// Uploads a program and returns the digest of the image.
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

/// An image to upload.
struct Target<'a> {
    image: &'a Reference,
    registry: Registry<'a>,
}

impl Target<'_> {
    /// Uploads a blob unless the registry has it, and returns its descriptor for the manifest.
    fn blob(&self, media_type: &str, bytes: Vec<u8>) -> Result<Value> {
        let (digest, len) = (Digest::of(&bytes).to_string(), bytes.len());
        let blobs = format!("{}/blobs", self.image.repository);
        let head = self.registry.request(Method::HEAD, &format!("{blobs}/{digest}"))?;
        if self.registry.send(head, MAX_REPLY)?.status != StatusCode::OK {
            let start = self.registry.request(Method::POST, &format!("{blobs}/uploads/"))?;
            let started = self.registry.send(start.header(CONTENT_LENGTH, 0), MAX_REPLY)?;
            self.expect(StatusCode::ACCEPTED, &started)?;
            let put = self.registry.request_at(Method::PUT, &started, &[("digest", &digest)])?;
            let put = put.header(CONTENT_TYPE, "application/octet-stream").body(bytes);
            self.expect(StatusCode::CREATED, &self.registry.send(put, MAX_REPLY)?)?;
        }
        Ok(json!({"mediaType": media_type, "digest": digest, "size": len}))
    }

    /// Uploads the manifest and returns its digest.
    fn manifest(&self, bytes: Vec<u8>) -> Result<String> {
        let digest = Digest::of(&bytes).to_string();
        let path = format!("{}/manifests/{}", self.image.repository, self.image.version());
        let put = self.registry.request(Method::PUT, &path)?.header(CONTENT_TYPE, MANIFEST).body(bytes);
        self.expect(StatusCode::CREATED, &self.registry.send(put, MAX_REPLY)?)?;
        Ok(digest)
    }

    fn expect(&self, status: StatusCode, reply: &Reply) -> Result<()> {
        if reply.status == status { Ok(()) } else { Err(self.registry.refused(reply)) }
    }
}
