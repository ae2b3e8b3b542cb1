//! TLS: the certificates of the server and of clients, and the DNS names in them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// The name of the application protocol (ALPN).
const HTTP: &[u8] = b"http/1.1";

/// The files of one end, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The certificate, followed by the intermediate certificates of its authority.
    pub certificate: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
}

/// The server's end.
pub struct Tls {
    files: Files,
    /// The authorities of client certificates. `None`: no certificate is requested from clients.
    clients: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    is_required: bool,
    config: Mutex<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files. `clients` are the authorities of client certificates; `is_required`: a client without a certificate is
    /// refused. The error is one line.
    pub fn open(files: Files, clients: Option<PathBuf>, is_required: bool) -> Result<Tls, String> {
        let config = Mutex::new(server_config(&files, clients.as_deref(), is_required)?);
        Ok(Tls { files, clients, is_required, config })
    }

    /// Reads the files again. What they contain applies after [`set`](Tls::set).
    pub fn read(&self) -> Result<Arc<ServerConfig>, String> {
        server_config(&self.files, self.clients.as_deref(), self.is_required)
    }

    /// Uses these certificates for connections from now on.
    pub fn set(&self, config: Arc<ServerConfig>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The directories of the files.
    pub fn folders(&self) -> Vec<PathBuf> {
        let files = [Some(&self.files.certificate), Some(&self.files.key), self.clients.as_ref()];
        let real = files.into_iter().flatten().filter_map(|file| std::fs::canonicalize(file).ok());
        real.filter_map(|file| file.parent().map(Path::to_owned)).collect()
    }

    /// Completes the handshake with a client. Returns the connection and the DNS names of the client's verified certificate.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, Vec<String>)> {
        let config = Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner));
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = certificate.map(names).unwrap_or_default();
        Ok((stream.into(), names))
    }
}

/// The DNS names of a certificate.
fn names(certificate: &CertificateDer) -> Vec<String> {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(certificate) => certificate.valid_dns_names().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

fn server_config(
    files: &Files,
    clients: Option<&Path>,
    is_required: bool,
) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder =
        builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(|error| error.to_string())?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            // A client without a certificate can send a token, unless a certificate is required.
            let verifier = if is_required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build().map_err(|error| format!("{}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (certificates, key) = read(files)?;
    let config = builder.with_single_cert(certificates, key);
    let mut config = config.map_err(|error| format!("{}: {error}", files.certificate.display()))?;
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(Arc::new(config))
}

/// Creates the client's end. Without `authority` it trusts the system's authorities; without `files` it sends no certificate.
pub fn connector(authority: Option<&Path>, files: Option<&Files>) -> Result<TlsConnector, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| text(&error))?;
    let builder = match authority {
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None => builder.with_platform_verifier().map_err(|error| text(&error))?,
    };
    let mut config = match files {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (certificates, key) = read(files)?;
            let config = builder.with_client_auth_cert(certificates, key);
            config.map_err(|error| format!("{}: {error}", files.certificate.display()))?
        }
    };
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(Arc::new(config).into())
}

/// The name of a server from its address, `HOST:PORT`.
pub fn server_name(address: &str) -> Result<ServerName<'static>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    eunomia_owner::check(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    Ok(roots)
}

fn read(files: &Files) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    for path in [&files.certificate, &files.key] {
        eunomia_owner::check(path)?;
    }
    let key = PrivateKeyDer::from_pem_file(&files.key);
    Ok((certificates(&files.certificate)?, key.map_err(|error| format!("{}: {error}", files.key.display()))?))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let all = CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| failed(&error))?;
    if all.is_empty() { Err(failed(&"there is no certificate in this file")) } else { Ok(all) }
}
