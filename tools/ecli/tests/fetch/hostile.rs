//! Servers and registries that try to exhaust memory or time, or to obtain passwords.

use serde_json::json;

use crate::server::{Reply, Server, certificate};
use crate::support::sha256;
use crate::{Ended, Place, package};

const SOURCE: i32 = 3;

/// The memory that ecli may use. Each of these servers sends at least as much.
const MEMORY: u64 = 1 << 30;

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

fn layer(bytes: &[u8]) -> serde_json::Value {
    json!({"mediaType": "application/vnd.eunomia.package.v1+json", "digest": digest(bytes), "size": bytes.len()})
}

fn manifest(layers: serde_json::Value) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers})
        .to_string()
        .into_bytes()
}

fn blob_path(bytes: &[u8]) -> String {
    format!("/v2/a/b/blobs/{}", digest(bytes))
}

const MANIFEST: &str = "/v2/a/b/manifests/1";

/// Serves an image as a well-behaved registry does.
fn serve(server: &Server) {
    server.on("/v2/", Reply::Content(b"{}".to_vec()));
    server.on(MANIFEST, Reply::Content(manifest(json!([layer(&package())]))));
    server.on(&blob_path(&package()), Reply::Content(package()));
}

fn image(server: &Server) -> String {
    format!("{}/a/b:1", server.url.split_once("://").unwrap().1)
}

/// Status 401 with a challenge.
fn challenge(text: &str) -> Reply {
    Reply::Full(401, vec![format!("WWW-Authenticate: {text}")], b"{}".to_vec())
}

/// Two servers with TLS, two without, and a user with a password for the first.
struct World {
    place: Place,
    safe: Server,
    other: Server,
    plain: Server,
}

impl World {
    fn new() -> World {
        let (config, certificate) = certificate();
        let place = Place::new();
        place.write("ca.pem", certificate.pem.as_bytes());
        let (safe, other) = (Server::tls(config.clone()), Server::tls(config));
        let world = World { place, safe, other, plain: Server::new() };
        let host = image(&world.safe).split('/').next().unwrap().to_owned();
        let auths = json!({"auths": {host: {"auth": "YWxpY2U6czNjcmV0"}}}).to_string();
        world.place.write(".docker/config.json", auths.as_bytes());
        world
    }

    fn ecli(&self, args: &[&str]) -> Ended {
        Ended::of(self.place.command(args).env("SSL_CERT_FILE", self.place.path("ca.pem")))
    }

    /// Everything that looks like a password or a token and was sent to another server than the first.
    fn leaked(&self) -> Vec<String> {
        [self.other.sent("authorization"), self.plain.sent("authorization")].concat()
    }
}

const PASSWORD: &str = "authorization: Basic YWxpY2U6czNjcmV0";

#[test]
fn an_image_of_a_decent_server_comes() {
    let (place, server) = (Place::new(), Server::new());
    serve(&server);
    assert!(place.run(&["inspect", &image(&server)]).worked().out.contains("sys_enter_openat"));
}

#[test]
fn no_body_of_a_registry_is_read_without_a_limit() {
    let place = Place::new();
    let token = "/token?scope=repository%3Aa%2Fb%3Apull";
    let blob = blob_path(&package());
    for reply in [
        Reply::EndlessChunks(200),
        Reply::EndlessChunks(401),
        Reply::EndlessChunks(404),
        Reply::EndlessChunks(500),
        Reply::Endless,
        Reply::Huge,
    ] {
        for path in ["/v2/", MANIFEST, &blob, token] {
            let server = Server::new();
            serve(&server);
            if path == token {
                server.on("/v2/", challenge(&format!("Bearer realm=\"{}/token\"", server.url)));
            }
            server.on(path, reply.clone());
            let mut command = std::process::Command::new("prlimit");
            command.arg(format!("--as={MEMORY}")).arg(env!("CARGO_BIN_EXE_ecli"));
            command.args(["inspect", "--timeout", "60", &image(&server)]);
            let ended = Ended::of(command.current_dir(place.path("")).env("HOME", place.path("")));
            // Of the first response, only the status is used.
            if path == "/v2/"
                && matches!(reply, Reply::EndlessChunks(401 | 404 | 500))
                && ended.code == Some(0)
            {
                continue;
            }
            assert_eq!(ended.code, Some(SOURCE), "{path}: {ended:?}");
            assert_eq!(ended.err.lines().count(), 1, "{path}: {ended:?}");
        }
    }
}

#[test]
fn a_login_reads_a_bounded_response() {
    let (place, server) = (Place::new(), Server::new());
    let host = image(&server).split('/').next().unwrap().to_owned();
    server.on("/v2/", challenge(&format!("Bearer realm=\"{}/token\",service=\"s\"", server.url)));
    server.on("/token?service=s", Reply::EndlessChunks(200));
    place.run(&["login", "-u", "kim", "-p", "x", &host]).refused(SOURCE, &["larger than"]);
    server.on("/token?service=s", Reply::EndlessChunks(401));
    place.run(&["login", "-u", "kim", "-p", "x", &host]).refused(SOURCE, &["wrong user \"kim\" or password"]);
}

#[test]
fn a_byte_now_and_then_does_not_keep_it_for_ever() {
    let (place, server) = (Place::new(), Server::new());
    let url = server.on("/p", Reply::Drip(200));
    place
        .run(&["run", "--timeout", "0.1", &url])
        .refused(SOURCE, &["not finished after 2s", "20 times --timeout"]);
    for (path, status) in [(MANIFEST, 200), (&*blob_path(&package()), 200)] {
        serve(&server);
        server.on(path, Reply::Drip(status));
        let ended = place.run(&["inspect", "--timeout", "0.1", &image(&server)]);
        assert_eq!(ended.code, Some(SOURCE), "{path}: {ended:?}");
    }
    serve(&server);
    // ecli does not wait long for the message of an error response.
    server.on(MANIFEST, Reply::Drip(500));
    place
        .run(&["inspect", "--timeout", "0.1", &image(&server)])
        .refused(SOURCE, &["the registry responded 500"]);
}

#[test]
fn a_manifest_that_cannot_be_right_is_refused() {
    let (place, server) = (Place::new(), Server::new());
    serve(&server);
    let with = |key: &str, value: serde_json::Value| {
        let mut layer = layer(&package());
        layer[key] = value;
        manifest(json!([layer]))
    };
    let index = |entry: &[u8]| {
        json!({"manifests": [{"digest": digest(entry), "platform": {"os": "linux", "architecture": "amd64"}},
                             {"digest": digest(entry), "platform": {"os": "linux", "architecture": "arm64"}}]})
        .to_string()
        .into_bytes()
    };
    let nested = index(&index(b"{}"));
    server.on(&format!("/v2/a/b/manifests/{}", digest(&index(b"{}"))), Reply::Content(index(b"{}")));
    for (bytes, word) in [
        (vec![b'['; 100_000], "invalid manifest: "),
        (b"nothing".to_vec(), "invalid manifest: "),
        (b"{}".to_vec(), "no layers"),
        (manifest(json!([])), "has no program"),
        (manifest(json!([1])), "a layer has no size"),
        (with("size", json!(-1)), "a layer has no size"),
        (with("size", json!(1u64 << 40)), "larger than"),
        (with("size", json!(package().len() - 1)), "larger than"),
        (with("size", json!(package().len() + 1)), ""),
        (with("digest", json!("md5:0123")), "digest"),
        (with("digest", json!(format!("sha256:{}/../x", "0".repeat(60)))), "digest"),
        (with("digest", json!(digest(b"x"))), "404"),
        (nested, "no layers"),
        (
            json!({"manifests": [{"digest": digest(b""), "platform": {"os": "plan9"}}]})
                .to_string()
                .into_bytes(),
            "no entry for",
        ),
    ] {
        server.on(MANIFEST, Reply::Content(bytes.clone()));
        let ended = place.run(&["inspect", &image(&server)]);
        // A layer that is shorter than announced is accepted if it has the right digest.
        if word.is_empty() {
            ended.worked();
            continue;
        }
        let is_told = ended.err.contains(word) || word == "404" && ended.err.contains("no such image");
        assert!(
            ended.code == Some(SOURCE) && is_told,
            "{}: {ended:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(300)])
        );
    }
}

#[test]
fn other_bytes_than_the_digest_says_are_refused() {
    let (place, server) = (Place::new(), Server::new());
    serve(&server);
    let mut wrong = package();
    wrong[10] ^= 1;
    for reply in [
        Reply::Content(wrong),
        Reply::Content(package()[1..].to_vec()),
        Reply::Truncated(package()),
        Reply::Full(206, vec![], package()),
        Reply::Full(200, vec!["Content-Encoding: gzip".into()], b"\x1f\x8b\x08\0\0".to_vec()),
    ] {
        server.on(&blob_path(&package()), reply);
        let ended = place.run(&["inspect", &image(&server)]);
        assert_eq!((ended.code, ended.err.lines().count()), (Some(SOURCE), 1), "{ended:?}");
    }
    // A manifest that is requested by digest is compared with the digest.
    serve(&server);
    let other = digest(b"other");
    server.on(&format!("/v2/a/b/manifests/{other}"), Reply::Content(manifest(json!([layer(&package())]))));
    let image = image(&server).replace(":1", "");
    let image = format!("{}@{other}", image.trim_end_matches(":1"));
    assert_eq!(Place::new().run(&["inspect", &image]).code, Some(SOURCE));
}

/// Content that is not unpacked uses no memory.
#[test]
fn a_compressed_body_is_not_unpacked() {
    let (place, server) = (Place::new(), Server::new());
    let url = server
        .on("/p", Reply::Full(200, vec!["Content-Encoding: gzip".into()], b"\x1f\x8b\x08\0\0\0".to_vec()));
    place.run(&["run", &url]).refused(SOURCE, &["compressed"]);
    assert!(server.sent("accept-encoding").is_empty());
}

#[test]
fn a_registry_by_https_leads_nowhere_without_it() {
    let world = World::new();
    serve(&world.plain);
    for path in ["/v2/", MANIFEST, &blob_path(&package())] {
        serve(&world.safe);
        world.safe.on(path, Reply::Redirect(format!("{}{path}", world.plain.url)));
        world.ecli(&["inspect", &image(&world.safe)]).refused(SOURCE, &["from https to"]);
        // The same holds for a redirect through a third server.
        world.safe.on(path, Reply::Redirect(format!("{}/detour", world.other.url)));
        world.other.on("/detour", Reply::Redirect(format!("{}{path}", world.plain.url)));
        world.ecli(&["inspect", &image(&world.safe)]).refused(SOURCE, &["from https to"]);
    }
    assert!(world.plain.requests().is_empty(), "{:?}", world.plain.requests());
}

#[test]
fn a_plain_url_that_went_by_https_once_stays_there() {
    let world = World::new();
    world.plain.on("/p", Reply::Content(package()));
    world.safe.on("/back", Reply::Redirect(format!("{}/p", world.plain.url)));
    let start = world.plain.on("/start", Reply::Redirect(format!("{}/back", world.safe.url)));
    world.ecli(&["inspect", &start]).refused(SOURCE, &["refusing redirect from https"]);
    assert_eq!(world.plain.requests(), ["GET /start HTTP/1.1"]);
}

#[test]
fn the_password_is_sent_to_the_registry_only() {
    let world = World::new();
    serve(&world.safe);
    serve(&world.other);
    // The server that asks first gets the password. A server that it redirects to does not, even if it asks too.
    world.safe.on("/v2/", challenge("Basic realm=\"x\""));
    world.safe.on(MANIFEST, Reply::Redirect(format!("{}{MANIFEST}", world.other.url)));
    world.safe.on(&blob_path(&package()), Reply::Redirect(format!("{}/blob", world.other.url)));
    world.other.on("/blob", Reply::Content(package()));
    world.ecli(&["inspect", &image(&world.safe)]).worked();
    assert!(world.safe.sent("authorization").iter().all(|line| line == PASSWORD));
    assert!(!world.safe.sent("authorization").is_empty());
    world.other.on(MANIFEST, challenge("Basic realm=\"x\""));
    assert_eq!(world.ecli(&["inspect", &image(&world.safe)]).code, Some(SOURCE));
    world.other.on(MANIFEST, challenge(&format!("Bearer realm=\"{}/token\"", world.other.url)));
    assert_eq!(world.ecli(&["inspect", &image(&world.safe)]).code, Some(SOURCE));
    assert!(world.leaked().is_empty(), "{:?}", world.leaked());
    // Another port is another server.
    world.safe.on("/v2/", Reply::Redirect(format!("{}/v2/", world.other.url)));
    world.other.on("/v2/", challenge("Basic realm=\"x\""));
    let _ = world.ecli(&["inspect", &image(&world.safe)]);
    assert!(world.leaked().is_empty(), "{:?}", world.leaked());
}

#[test]
fn a_registry_does_not_fill_the_screen() {
    let (place, server) = (Place::new(), Server::new());
    serve(&server);
    let layers = (0..10_000).map(|number| {
        let mut layer = layer(b"x");
        layer["mediaType"] = format!("type-{number}").into();
        layer
    });
    server.on(MANIFEST, Reply::Content(manifest(layers.collect())));
    let ended = place.run(&["inspect", &image(&server)]);
    assert!(ended.err.len() < 1000, "{} bytes", ended.err.len());
    ended.refused(SOURCE, &["the image has no program; its layers are type-0, type-1, "]);
}

#[test]
fn a_redirect_does_not_forward_the_identity_token() {
    let world = World::new();
    serve(&world.safe);
    let registry = image(&world.safe).split('/').next().unwrap().to_owned();
    let auths = json!({"auths": {registry: {"identitytoken": "s3cret", "auth": "YWxpY2U6"}}}).to_string();
    world.place.write(".docker/config.json", auths.as_bytes());
    let realm = format!("Bearer realm=\"{}/token\"", world.safe.url);
    world.safe.on("/v2/", challenge(&realm));
    for status in [307, 308] {
        let location = format!("Location: {}/token", world.other.url);
        world.safe.on("/token", Reply::Full(status, vec![location], vec![]));
        world.ecli(&["inspect", &image(&world.safe)]).refused(SOURCE, &["the registry responded 30"]);
    }
    assert!(world.other.requests().is_empty(), "{:?}", world.other.requests());
    // The service itself gets the password.
    world.safe.on("/token", Reply::Content(br#"{"token": "t0ken"}"#.to_vec()));
    world.ecli(&["inspect", &image(&world.safe)]).worked();
    assert!(world.safe.sent("authorization").iter().all(|line| line == "authorization: Bearer t0ken"));
}

#[test]
fn a_token_is_asked_for_where_the_registry_says_but_only_by_https() {
    let world = World::new();
    serve(&world.safe);
    let port = world.plain.url.rsplit(':').next().unwrap().to_owned();
    let safe_host = world.safe.url.strip_prefix("https://").unwrap();
    for realm in [
        format!("{}/token", world.plain.url),
        format!("http://127.0.0.1:{port}/token"),
        format!("http://[::1]:{port}/token"),
        format!("HTTP://localhost:{port}/token"),
        format!("http://{safe_host}/token"),
        format!("https://u:p@{safe_host}/token"),
        "ftp://localhost/token".into(),
        "file:///etc/passwd".into(),
        "//localhost/token".into(),
        "token".into(),
        String::new(),
    ] {
        world.safe.on("/v2/", challenge(&format!("Bearer realm=\"{realm}\",service=\"s\"")));
        world.ecli(&["inspect", &image(&world.safe)]).refused(SOURCE, &["token service"]);
    }
    assert!(world.plain.requests().is_empty() && world.safe.sent("authorization").is_empty());

    // The standard lets a registry name another service for tokens. Its tokens are sent to the registry only.
    let token = "/token?service=s&scope=repository%3Aa%2Fb%3Apull";
    world.other.on(token, Reply::Content(br#"{"token": "t0ken"}"#.to_vec()));
    world.safe.on(
        "/v2/",
        challenge(&format!("Bearer realm=\"{}/token\",service=\"s\",scope=\"all\"", world.other.url)),
    );
    world.safe.on(&blob_path(&package()), Reply::Redirect(format!("{}/blob", world.other.url)));
    world.other.on("/blob", Reply::Content(package()));
    world.ecli(&["inspect", &image(&world.safe)]).worked();
    assert_eq!(world.other.sent("authorization"), [PASSWORD]);
    assert!(world.safe.sent("authorization").iter().all(|line| line == "authorization: Bearer t0ken"));

    // Invalid tokens.
    for (answer, word) in [
        (&br#"{"token": "a\nb: c"}"#[..], "token"),
        (br#"{}"#, "no token"),
        (br#"[]"#, "no token"),
        (b"x", "no token"),
        (br#"{"token": 1}"#, "no token"),
    ] {
        world.other.on(token, Reply::Content(answer.to_vec()));
        world.ecli(&["inspect", &image(&world.safe)]).refused(SOURCE, &[word]);
    }
    // The service may not redirect the password to another server either.
    world.other.on(token, Reply::Redirect(format!("{}/token", world.plain.url)));
    world.ecli(&["inspect", &image(&world.safe)]).refused(SOURCE, &["from https to"]);
    world.other.on(token, Reply::Redirect(format!("{}/token", world.safe.url)));
    world.safe.on("/token", Reply::Content(br#"{"token": "t0ken"}"#.to_vec()));
    world.ecli(&["inspect", &image(&world.safe)]).worked();
    assert!(!world.safe.sent("authorization").contains(&PASSWORD.to_owned()));
    assert!(world.plain.requests().is_empty());
}

#[test]
fn an_upload_to_another_server_does_not_send_the_password() {
    let world = World::new();
    world.place.write("p.json", &package());
    world.safe.on("/v2/", challenge("Basic realm=\"x\""));
    let uploads = "/v2/a/b/blobs/uploads/";
    let config = digest(b"{}");
    let push = || world.ecli(&["push", "-m", "p.json", &image(&world.safe)]);
    world.safe.on(uploads, Reply::Full(202, vec![format!("Location: {}/up", world.plain.url)], vec![]));
    push().refused(SOURCE, &["refusing upload to insecure"]);
    world.safe.on(uploads, Reply::Full(202, vec![], vec![]));
    push().refused(SOURCE, &["did not send a valid upload URL"]);
    world.safe.on(uploads, Reply::Full(202, vec![format!("Location: {}/up?x=1", world.other.url)], vec![]));
    let put = format!("/up?x=1&digest={}", config.replace(':', "%3A"));
    world.other.on(&put, challenge("Basic realm=\"x\""));
    assert_eq!(push().code, Some(SOURCE));
    assert!(world.leaked().is_empty(), "{:?}", world.leaked());
    assert!(world.other.requests().iter().any(|line| line.contains(&put)), "{:?}", world.other.requests());
}

/// Only a registry on this machine, and servers on this machine that it redirects to, may use plain HTTP.
#[test]
fn a_local_registry_cannot_redirect_to_another_machine_over_plain_http() {
    let (place, server, proxy) = (Place::new(), Server::new(), Server::new());
    place.write("p.json", &package());
    let ecli = |args: &[&str]| Ended::of(place.command(args).env("http_proxy", &proxy.url));
    for path in ["/v2/", MANIFEST, &blob_path(&package())] {
        serve(&server);
        server.on(path, Reply::Redirect("http://192.0.2.1/x".into()));
        let ended = ecli(&["inspect", "--timeout", "0.5", &image(&server)]);
        assert_eq!(ended.code, Some(SOURCE), "{path}: {ended:?}");
    }
    serve(&server);
    server
        .on("/v2/a/b/blobs/uploads/", Reply::Full(202, vec!["Location: http://192.0.2.1/up".into()], vec![]));
    ecli(&["push", "-m", "p.json", &image(&server)]).refused(SOURCE, &["refusing upload to insecure"]);
    // ecli contacts the registry without a proxy, because a proxy would see the password.
    assert!(proxy.requests().is_empty(), "{:?}", proxy.requests());
    // A redirect to this machine is followed.
    serve(&server);
    let other = Server::new();
    let to = other.on("/blob", Reply::Content(package()));
    server.on(&blob_path(&package()), Reply::Redirect(to));
    ecli(&["inspect", &image(&server)]).worked();
}

/// Without a password, ecli requests a token without one: some registries are public.
#[test]
fn a_registry_that_asks_everybody_at_the_door_may_let_anybody_read() {
    let (place, server) = (Place::new(), Server::new());
    serve(&server);
    server.on("/v2/", challenge("Basic realm=\"x\""));
    place.run(&["inspect", &image(&server)]).worked();
    server.on(MANIFEST, challenge("Basic realm=\"x\""));
    place.run(&["inspect", &image(&server)]).refused(SOURCE, &["login"]);
    server.on(MANIFEST, challenge("Negotiate"));
    place.run(&["inspect", &image(&server)]).refused(SOURCE, &["login"]);
}

#[test]
fn messages_of_a_server_stay_on_one_line() {
    let (place, server) = (Place::new(), Server::new());
    serve(&server);
    let message = "a\nb\r\x1b[2J\u{9b}31m\u{202e}\u{2066}\u{200b}\u{e0041}\u{7f}z";
    let body = json!({"errors": [{"code": "UNKNOWN", "message": message}]}).to_string();
    server.on(MANIFEST, Reply::Full(500, vec![], body.into_bytes()));
    let seen = "a b\\u000d\\u001b[2J\\u009b31m\\u202e\\u2066\\u200b\\udb40\\udc41\\u007fz";
    place.run(&["inspect", &image(&server)]).refused(SOURCE, &[seen]);
    let index = json!([{"name": "x\ny", "description": "\u{202e}\ndone"}]).to_string();
    server.on("/index.json", Reply::Content(index.into_bytes()));
    let mut command = place.command(&["list", "--repository"]);
    let ended = Ended::of(command.env("EUNOMIA_REPOSITORY", &server.url)).worked();
    assert_eq!(ended.out, "x\\u000ay  \\u202e\\u000adone\n");
}

/// Response headers that do not end, or contradict each other.
#[test]
fn malformed_response_headers_are_refused() {
    let (place, server) = (Place::new(), Server::new());
    let many: Vec<String> = (0..50_000).map(|index| format!("X-{index}: {}", "x".repeat(100))).collect();
    for (status, lines) in [
        (200, many),
        (200, vec![format!("X: {}", "x".repeat(10 << 20))]),
        (200, vec!["Content-Length: 1".into(), "Content-Length: 5".into()]),
        (200, vec!["Content-Length: -1".into()]),
        (200, vec!["Content-Length: 99999999999999999999999".into()]),
        (200, vec!["Transfer-Encoding: chunked".into(), "Content-Length: 5".into()]),
        (301, vec![]),
        (301, vec!["Location: https://".into()]),
        (301, vec!["Location: file:///etc/passwd".into()]),
        (301, vec!["Location: ftp://localhost/p".into()]),
        (301, vec!["Location: gopher://localhost/p".into()]),
        (100, vec![]),
        (999, vec![]),
    ] {
        let first = lines.first().map(|line| line.chars().take(40).collect::<String>());
        let url = server.on("/p", Reply::Full(status, lines, package()));
        let ended = place.run(&["inspect", "--timeout", "1", &url]);
        assert_eq!(
            (ended.code, ended.err.lines().count()),
            (Some(SOURCE), 1),
            "{status} {first:?}: {ended:?}"
        );
        assert!(ended.err.len() < 1000, "{ended:?}");
    }
}

#[test]
fn no_referer_is_sent() {
    let (place, server, other) = (Place::new(), Server::new(), Server::new());
    let target = other.on("/p", Reply::Content(package()));
    let url = server.on("/away?key=secret", Reply::Redirect(target));
    place.run(&["inspect", &url]).worked();
    assert!(other.sent("referer").is_empty(), "{:?}", other.heads());
}

#[test]
fn unauthenticated_downloads_print_a_warning() {
    let (place, proxy) = (Place::new(), Server::new());
    proxy.on("/p", Reply::Content(package()));
    proxy.on("/package/package.json", Reply::Content(package()));
    let ecli = |args: &[&str]| {
        let mut command = place.command(args);
        Ended::of(command.env("http_proxy", &proxy.url).env("EUNOMIA_REPOSITORY", "http://nowhere.invalid/"))
            .worked()
    };
    let pin = digest(&package()).replace(':', "=");
    let is_told = |ended: Ended| ended.err.lines().count() == 1 && ended.err.contains("plain http");
    assert!(is_told(ecli(&["inspect", "http://nowhere.invalid/p"])));
    assert!(is_told(ecli(&["pull", "-o", "got", "HTTP://nowhere.invalid/p"])));
    assert!(is_told(ecli(&["inspect", "package"])));
    assert!(!is_told(ecli(&["inspect", &format!("http://nowhere.invalid/p#{pin}")])));
    // Nobody can intercept a connection to this machine, but a redirect may lead to another machine.
    let here = proxy.on("/here", Reply::Content(package()));
    let away = proxy.on("/away", Reply::Redirect("http://nowhere.invalid/p".into()));
    assert!(!is_told(ecli(&["inspect", &here])));
    assert!(is_told(ecli(&["inspect", &away])));

    std::fs::create_dir_all(place.path("trusted")).unwrap();
    place.run(&["keygen", "--no-password", "-s", "you.key", "-p", "trusted/you.pub"]).worked();
    place.write("p.json", &package());
    place.run(&["sign", "-s", "you.key", "p.json"]).worked();
    proxy.on("/p.minisig", Reply::Content(std::fs::read(place.path("p.json.minisig")).unwrap()));
    assert!(!is_told(ecli(&[
        "inspect",
        "--require-signed",
        "--trust",
        "trusted",
        "http://nowhere.invalid/p"
    ])));
}
