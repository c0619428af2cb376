//! A TCP port with a password and TLS, and the Unix socket of the same server.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

mod common;
use common::{Serve, TestClient, certificate, have, text, tls, until};

fn kv(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv")).args(arguments).output().expect("the kv binary")
}

fn one(directory: &Path, more: &[&str]) -> Serve {
    Serve::start_alone(&directory.join("ring"), more)
}

#[test]
fn the_password_is_required_on_the_port_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("password"), "secret\n").unwrap();
    let (password, socket) = (path("password"), path("kv.sock"));
    let mut serve = one(directory.path(), &["--requirepass-file", &password, "--socket", &socket]);
    let mut client = serve.client();
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH secret"), "OK");
    let mut local = TestClient::over(UnixStream::connect(&socket).unwrap());
    until("a replica that commits", || (local.ask("SET a 1") == "OK").then_some(()));
    assert_eq!(client.ask("GET a"), "\"1\"");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "other users can open the socket: {mode:o}");
    // The same applies to operator subcommands.
    let status = kv(&["status", "--at", &socket]);
    let message = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.success() && message.starts_with("id: 1\n"), "{message}");
    let refused = kv(&["status", "--at", &serve.address.to_string()]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(69), "{message}");
    assert!(message.contains("use its Unix socket") && message.contains("--at"), "{message}");
    // The password must not be logged, and the socket is removed when the process ends.
    let line = std::fs::read(format!("/proc/{}/cmdline", serve.process.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("secret"));
    drop((client, local));
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    assert!(!Path::new(&socket).exists());
}

/// Reply of a port to an operator request: the text before and after the socket's path.
const REFUSAL: [&str; 2] = [
    "-NOPERM only operators may send this request: send it to the Unix socket ",
    ", as the user that runs the replica",
];

#[test]
fn operator_requests_are_accepted_on_the_socket_only() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("kv.sock").display().to_string();
    let serve = one(directory.path(), &["--socket", &socket]);
    let mut client = serve.client();
    let refusal = REFUSAL.join(&socket);
    for request in ["MEMBERS ADD 2", "members remove 1", "NEWCLUSTER", "NEWCLUSTER word"] {
        assert_eq!(client.ask(request), refusal, "{request}");
    }
    assert!(client.ask("MEMBERS").contains("REPLICA"), "everybody may look");
    let mut local = TestClient::over(UnixStream::connect(&socket).unwrap());
    assert!(local.ask("NEWCLUSTER").contains("would become the only voter of a new cluster"));
    // The command line finds the socket of a replica on this host by itself.
    let output = kv(&["members", "add", "0", "--at", &serve.address.to_string()]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("a replica id is a whole number from 1"),
        "the request did not reach the replica: {message}"
    );
}

#[test]
fn a_control_socket_is_created_without_the_option() {
    let directory = tempfile::tempdir().unwrap();
    let mut serve = one(directory.path(), &[]);
    let mut client = serve.client();
    let refusal = client.ask("NEWCLUSTER");
    let path = refusal.strip_prefix(REFUSAL[0]).and_then(|rest| rest.strip_suffix(REFUSAL[1]));
    let Some(path) = path.map(Path::new) else {
        assert!(refusal.contains("`--socket PATH` makes"), "{refusal}");
        println!("skipped: this user has no directory in /run");
        return;
    };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path), mode(path.parent().unwrap())), (0o600, 0o700));
    let mut local = TestClient::over(UnixStream::connect(path).unwrap());
    assert!(local.ask("NEWCLUSTER").contains("would become the only voter of a new cluster"));
    drop((client, local));
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    assert!(!path.exists());
}

#[test]
fn an_encrypted_port_speaks_tls_only() {
    if !have("openssl", "openssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(directory.path(), "server");
    let (cert_text, key) = (cert.display().to_string(), key.display().to_string());
    let serve = one(directory.path(), &["--tls-cert", &cert_text, "--tls-key", &key]);
    let mut client = tls(serve.address, &cert, None);
    until("a replica that commits", || (client.ask("SET a 1") == "OK").then_some(()));
    let big = "x".repeat(900_000);
    for _ in 0..10 {
        assert_eq!(text(&client.call(&["SET", "big", &big]).unwrap()), "OK");
        assert_eq!(text(&client.call(&["GET", "big"]).unwrap()), format!("\"{big}\""));
    }
    let mut plain = serve.client();
    plain.send(b"PING\r\n").unwrap();
    assert!(!matches!(plain.reply(), Ok(reply) if text(&reply) == "PONG"));
    assert_eq!(client.ask("GET a"), "\"1\"", "it is the other's own mistake");
}

#[test]
fn clients_without_a_valid_certificate_are_rejected() {
    if !have("openssl", "openssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = certificate(directory.path(), "server");
    let known = certificate(directory.path(), "known");
    let stranger = certificate(directory.path(), "stranger");
    let [cert, key, ca] = [&server.0, &server.1, &known.0].map(|path| path.display().to_string());
    let more = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let serve = one(directory.path(), &more);
    let mut client = tls(serve.address, &server.0, Some(&known));
    assert_eq!(client.ask("PING"), "PONG");
    for own in [None, Some(&stranger)] {
        let mut client = tls(serve.address, &server.0, own);
        let asked = client.send(b"PING\r\n").and_then(|()| client.reply());
        assert!(asked.is_err(), "{own:?}: {asked:?}");
    }
    assert_eq!(client.ask("PING"), "PONG");
}

#[test]
fn invalid_password_and_tls_options_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("empty"), "\n").unwrap();
    std::fs::write(path("text"), "no certificate\n").unwrap();
    let (empty, missing, wrong) = (path("empty"), path("missing"), path("text"));
    let engine = format!("embedded:{}", path("ring"));
    let serve = |more: &[&str]| {
        kv(&[&["serve", "--id", "1", "--voters", "1", "--engine", &engine], more].concat())
    };
    let remote = ["--listen", "0.0.0.0:0"];
    let mut wanted = vec![
        (
            remote.to_vec(),
            1,
            "kv: --listen 0.0.0.0:0: other hosts can reach this address; require a password with \
             --requirepass-file or certificates with --tls-client-ca, listen on 127.0.0.1 or [::1], \
             or add --allow-remote if the network is trusted",
        ),
        (vec!["--requirepass-file", &missing], 1, "name a readable file with --requirepass-file"),
        (vec!["--requirepass-file", &empty], 1, "must have 1 to 512 bytes"),
        (vec!["--tls-cert", &missing, "--tls-key", &missing], 1, "with --tls-cert"),
        (vec!["--tls-cert", &wrong, "--tls-key", &missing], 1, "there is no certificate in"),
        (vec!["--tls-cert", &wrong], 2, "--tls-key"),
        (vec!["--tls-client-ca", &wrong], 2, "--tls-cert"),
        (vec!["--maxmemory", "lots"], 2, "like 1000000, 512mb or 2gb"),
    ];
    let made = have("openssl", "openssl").then(|| {
        let (one, other) =
            (certificate(directory.path(), "one"), certificate(directory.path(), "other"));
        [one.0, other.1, other.0].map(|path| path.display().to_string())
    });
    if let Some([cert, key, _]) = &made {
        wanted.push((vec!["--tls-cert", cert, "--tls-key", key], 1, "--tls-key cannot be used"));
        wanted.push((vec!["--tls-cert", cert, "--tls-key", cert], 1, "with --tls-key"));
    }
    for (more, code, message) in wanted {
        let output = serve(&more);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {error}");
        assert!(error.contains(message), "{more:?}: {error}");
    }
}

#[test]
fn a_remote_address_is_accepted_with_a_password_certificates_or_consent() {
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password").display().to_string();
    std::fs::write(&password, "secret").unwrap();
    for (number, more) in
        [["--allow-remote", ""], ["--requirepass-file", &password]].into_iter().enumerate()
    {
        let more: Vec<&str> = more.into_iter().filter(|word| !word.is_empty()).collect();
        let ring = directory.path().join(number.to_string());
        // An address reserved for documentation. The check accepts it, and binding then fails.
        let engine = format!("embedded:{}", ring.display());
        let arguments = ["serve", "--id", "1", "--voters", "1", "--engine", &engine];
        let output = kv(&[&arguments[..], &["--listen", "192.0.2.1:7001"], &more].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("kv: cannot listen on 192.0.2.1:7001"), "{more:?}: {error}");
    }
}
