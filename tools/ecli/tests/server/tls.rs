//! TLS on an address, and certificates of clients.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;

use crate::support::{self, run, wait_for};
use crate::{Server, folder, needs_root};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap());
        fs::write(folder.join(name), authority.0.as_ref().pem()).unwrap();
        authority
    }

    /// Writes NAME.pem and NAME.key: a certificate for these DNS names.
    fn sign(&self, folder: &Path, name: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        fs::write(folder.join(format!("{name}.pem")), signed.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn certificates_of_clients_have_roles_and_are_read_again() {
    needs_root!();
    let files = folder();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let (servers, clients) =
        (Authority::new(files.path(), "servers.pem"), Authority::new(files.path(), "clients.pem"));
    servers.sign(files.path(), "server", &["localhost"]);
    clients.sign(files.path(), "reader", &["reader.example"]);
    clients.sign(files.path(), "operator", &["operator.example"]);
    clients.sign(files.path(), "other", &["other.example"]);
    servers.sign(files.path(), "foreign", &["operator.example"]);
    fs::write(path("tokens"), "read cert:reader.example\noperate cert:operator.example\n").unwrap();
    let server = Server::start(&[
        "-p",
        "0",
        "--tokens",
        &path("tokens"),
        "--tls-cert",
        &path("server.pem"),
        "--tls-key",
        &path("server.key"),
        "--tls-client-ca",
        &path("clients.pem"),
    ]);
    let port = server.address.as_ref().unwrap().rsplit_once(':').unwrap().1;
    let endpoint = format!("https://localhost:{port}");
    let client = |name: &str, args: &[&str]| {
        let (cert, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        run(&[
            &["client", "-e", &endpoint, "--ca", &path("servers.pem"), "--cert", &cert, "--key", &key],
            args,
        ]
        .concat())
    };
    let list = |name: &str| client(name, &["list"]);
    assert_eq!((list("reader").code, list("reader").err.as_str()), (Some(0), ""));
    assert_eq!(
        client("reader", &["stop", "1"]).err.lines().next().unwrap(),
        "ecli: this needs the role operate; you have read; root may do everything over the unix socket; tokens can have any role"
    );
    let ran = client("operator", &["stop", "1"]);
    assert!(ran.err.contains("there is no task 1"), "{}", ran.err);
    assert!(
        list("other").err.contains("there is no role for the certificate of other.example"),
        "{}",
        list("other").err
    );
    // A client certificate by the authority of the servers is refused.
    assert_eq!(list("foreign").code, Some(1), "{}", list("foreign").err);
    // A caller without a certificate needs a token.
    let bare = run(&["client", "-e", &endpoint, "--ca", &path("servers.pem"), "list"]);
    assert!(bare.err.starts_with("ecli: a token is required"), "{}", bare.err);
    // The client checks the server, too.
    let ran = run(&["client", "-e", &endpoint, "--ca", &path("clients.pem"), "list"]);
    assert!(ran.code == Some(1) && ran.err.contains("invalid peer certificate"), "{}", ran.err);
    let ran = run(&[
        "client",
        "-e",
        &endpoint.replace("localhost", "127.0.0.1"),
        "--ca",
        &path("servers.pem"),
        "list",
    ]);
    assert!(ran.err.contains("certificate not valid for name"), "{}", ran.err);
    // A server without TLS refuses TLS, and a server with TLS refuses plain HTTP.
    let ran = run(&["client", "-e", &format!("http://localhost:{port}"), "list"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);

    // All or nothing: a broken key keeps the old certificates, whatever else has changed.
    let reloaded = |count: usize, text: &str| {
        support::signal(&server.child, Signal::HUP);
        wait_for(text, || server.log().matches(text).count() == count);
    };
    fs::copy(path("servers.pem"), path("clients.pem")).unwrap();
    let key = fs::read(path("server.key")).unwrap();
    fs::write(path("server.key"), "nonsense").unwrap();
    reloaded(1, "server: the settings stay as they were: ");
    assert_eq!(list("reader").code, Some(0));
    fs::write(path("server.key"), key).unwrap();
    reloaded(1, "server: the settings were read again\n");
    assert_eq!((list("reader").code, list("foreign").code), (Some(1), Some(0)));
}

#[test]
fn mistakes_with_certificates_are_explained() {
    let files = folder();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let authority = Authority::new(files.path(), "ca.pem");
    authority.sign(files.path(), "one", &["localhost"]);
    authority.sign(files.path(), "two", &["localhost"]);
    fs::write(path("tokens"), "").unwrap();
    fs::write(path("empty"), "").unwrap();
    let refused = |certificate: &str, key: &str| {
        let ran = run(&[
            "server",
            "--socket",
            &path("s"),
            "--state",
            &path("state"),
            "-p",
            "0",
            "--tokens",
            &path("tokens"),
            "--tls-cert",
            &path(certificate),
            "--tls-key",
            &path(key),
        ]);
        assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{}", ran.err);
        ran.err
    };
    assert!(
        refused("one.pem", "two.key").contains("one.pem: keys may not be consistent"),
        "{}",
        refused("one.pem", "two.key")
    );
    assert!(refused("empty", "one.key").contains("empty: there is no certificate in this file"));
    assert!(refused("one.pem", "empty").contains("empty: no items found"), "{}", refused("one.pem", "empty"));
    assert!(refused("none", "one.key").contains("none: "), "{}", refused("none", "one.key"));
    let ran = run(&["server", "--tls-cert", "a"]);
    assert!(ran.code == Some(2) && ran.err.contains("--tls-key"), "{}", ran.err);
}
