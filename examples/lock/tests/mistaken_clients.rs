//! Clients that do not speak the protocol of the lock server.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

mod common;
use common::Group;

/// Sends all bytes before it reads, then returns everything it receives until the connection is
/// closed.
fn replies_to(group: &Group, bytes: &[u8]) -> String {
    let mut client = UnixStream::connect(&group.servers[0].socket).unwrap();
    client.set_read_timeout(Some(service_lib::testing::BOUND)).unwrap();
    // Fails if the server closes the connection early.
    let _ = client.write_all(bytes);
    let mut replies = Vec::new();
    let _ = client.read_to_end(&mut replies);
    String::from_utf8(replies).unwrap()
}

#[test]
fn protocol_errors_are_reported_and_http_requests_are_dropped() {
    let group = Group::start();
    let mistake = "-ERR Protocol error: too big inline request\r\n";
    assert_eq!(replies_to(&group, &[b'x'; 900_000]), mistake);
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n";
    assert_eq!(replies_to(&group, post.as_bytes()), "");
    assert_eq!(replies_to(&group, b"host: localhost\r\n\r\nPING\r\nQUIT\r\n"), "");
    assert_eq!(replies_to(&group, b"PING\r\nQUIT\r\n"), "+PONG\r\n+OK\r\n");
}
