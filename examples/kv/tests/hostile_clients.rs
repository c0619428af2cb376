//! Clients that attack, violate the protocol or do not read, and the limits that contain them.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv::limits::{REQUEST_BYTES_MAX, UNAUTHENTICATED_ARGUMENTS_MAX, UNAUTHENTICATED_BYTES_MAX};
use kv::server::{Password, ServerConfig};

mod common;
use common::{BOUND, Serve, Test, TestClient, request, text, until};

const PATIENT: Duration = Duration::from_secs(60);

fn is_closed<S: io::Read + io::Write>(client: &mut TestClient<S>) -> bool {
    let error = client.reply().expect_err("the connection is closed");
    // Closing a connection with unread input resets it.
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

#[test]
fn http_requests_are_not_executed() {
    let test = Test::start(PATIENT);
    let commands = "SET pwned yes\r\n";
    for head in [
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 15\r\n\r\n",
        "post / HTTP/1.1\r\n\r\n",
        "*2\r\n$4\r\nPOST\r\n$1\r\n/\r\n",
        "host: 127.0.0.1\r\n",
    ] {
        let mut client = test.client();
        // The server may close the connection before it has read everything.
        let _ = client.send(format!("{head}{commands}").as_bytes());
        assert!(is_closed(&mut client), "{head}");
    }
    // Other methods are unknown commands. The `Host:` line then reveals that this is HTTP.
    let mut client = test.client();
    let _ = client.send(format!("PUT / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n{commands}").as_bytes());
    assert!(text(&client.reply().unwrap()).starts_with("-ERR unknown command 'PUT'"));
    assert!(is_closed(&mut client));
    assert_eq!(test.fake.0.proposed.load(Ordering::SeqCst), 0);
    assert_eq!(test.client().ask("EXISTS pwned"), ":0");
}

#[test]
fn unauthenticated_clients_have_lower_limits() {
    let password = Password::from_file_text(b"secret\n");
    let test = Test::start_with(ServerConfig { password, ..ServerConfig::new(PATIENT) });
    let arguments = UNAUTHENTICATED_ARGUMENTS_MAX + 1;
    for (bytes, message) in [
        (format!("*{arguments}\r\n"), "unauthenticated multibulk length"),
        (
            format!("*2\r\n$4\r\nAUTH\r\n${UNAUTHENTICATED_BYTES_MAX}\r\n"),
            "unauthenticated bulk length",
        ),
        ("x".repeat(UNAUTHENTICATED_BYTES_MAX), "too big inline request"),
    ] {
        let mut client = test.client();
        client.send(bytes.as_bytes()).unwrap();
        assert_eq!(text(&client.reply().unwrap()), format!("-ERR Protocol error: {message}"));
        assert!(is_closed(&mut client), "{message}");
    }
    // The limits do not apply to requests after the password, even in the same write.
    let mut client = test.client();
    let value = "x".repeat(900_000);
    let mut bytes = request(&["AUTH", "secret"]);
    bytes.extend(request(&["SET", "a", &value]));
    bytes.extend(request(&[&["DEL"][..], &["a"; 20]].concat()));
    client.send(&bytes).unwrap();
    assert_eq!(text(&client.reply().unwrap()), "OK");
    assert_eq!(text(&client.reply().unwrap()), "OK");
    assert_eq!(text(&client.reply().unwrap()), ":1");
    client.ask("RESET");
    client.send(format!("*{arguments}\r\n").as_bytes()).unwrap();
    let message = text(&client.reply().unwrap());
    assert_eq!(message, "-ERR Protocol error: unauthenticated multibulk length");
}

#[test]
fn clients_that_do_not_authenticate_are_disconnected() {
    let config = ServerConfig {
        password: Password::from_file_text(b"secret\n"),
        authentication_timeout: Duration::from_secs(2),
        ..ServerConfig::new(PATIENT)
    };
    let test = Test::start_with(config);
    // On a busy machine a client may be too late.
    let mut right = until("a client that authenticates in time", || {
        let mut client = test.client();
        let reply = client.call(&["AUTH", "secret"]).ok()?;
        (text(&reply) == "OK").then_some(client)
    });
    let (mut silent, mut wrong) = (test.client(), test.client());
    let _ = wrong.send(&request(&["AUTH", "wrong"]));
    assert!(is_closed(&mut silent));
    while wrong.reply().is_ok() {}
    assert_eq!(right.ask("GET a"), "nil", "its own time was over before");
    let test = Test::start_with(ServerConfig {
        authentication_timeout: Duration::ZERO,
        ..ServerConfig::new(PATIENT)
    });
    assert_eq!(test.client().ask("GET a"), "nil", "no password is required");
}

#[test]
fn a_request_that_is_too_large_receives_the_limit() {
    let test = Test::start(PATIENT);
    let message = format!("-ERR Protocol error: request of more than {REQUEST_BYTES_MAX} bytes");
    for bytes in [REQUEST_BYTES_MAX, 3_000_000, 5_000_000, 20_000_000] {
        let mut client = test.client();
        client.ask("PING");
        // A client may write the whole request before it reads.
        client.send(&request(&["SET", "a", &"x".repeat(bytes)])).unwrap();
        assert_eq!(text(&client.reply().unwrap()), message, "{bytes}");
        assert!(is_closed(&mut client), "{bytes}");
    }
    assert_eq!(test.client().ask("EXISTS a"), ":0");
}

/// Returns the resident memory of a process in bytes.
fn memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn subscribers_that_do_not_read_use_little_memory() {
    const LISTENERS: usize = 400;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("kv.sock");
    let path = socket.display().to_string();
    let serve = Serve::start_alone(&directory.path().join("ring"), &["--socket", &path]);
    let mut writer = serve.client();
    until("a replica that commits", || (writer.ask("SET a 1") == "OK").then_some(()));
    let mut listeners: Vec<_> = (0..LISTENERS)
        .map(|_| {
            let mut client = TestClient::over(UnixStream::connect(&socket).unwrap());
            client.ask("PSUBSCRIBE *");
            client
        })
        .collect();
    let before = memory(serve.process.pid());
    let key = "k".repeat(200);
    for _ in 0..30 {
        writer.send(&request(&["SET", &key, "1"]).repeat(100)).unwrap();
        (0..100).for_each(|_| drop(writer.reply().unwrap()));
        // The subscriber that reads receives everything, so as much was sent to the others.
        (0..200).for_each(|_| drop(listeners[0].reply().unwrap()));
    }
    let each = memory(serve.process.pid()).saturating_sub(before) / LISTENERS;
    assert!(each < 150_000, "{each} bytes for each");
    drop(listeners);
    until("all subscribers to be disconnected", || {
        writer.ask("INFO clients").contains("connected_clients:1\\r\\n").then_some(())
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected() {
    let timeout = Duration::from_millis(200);
    let test =
        Test::start_with(ServerConfig { listener_timeout: timeout, ..ServerConfig::new(PATIENT) });
    let (mut lazy, mut writer) = (test.client(), test.client());
    lazy.ask("PSUBSCRIBE *");
    let key = "k".repeat(4000);
    until("the subscriber to be disconnected", || {
        let _ = writer.send(&request(&["SET", &key, "1"]).repeat(1000));
        (0..1000).for_each(|_| drop(writer.reply().unwrap()));
        writer.ask("INFO clients").contains("connected_clients:1\\r\\n").then_some(())
    });
    lazy.stream().set_read_timeout(Some(BOUND)).unwrap();
    while lazy.reply().is_ok() {}
}
