//! Clients that do not speak the protocol of the lock server.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

mod common;
use common::Group;

/// What a client is told that writes all of this before it reads, until it is disconnected.
fn told(group: &Group, bytes: &[u8]) -> String {
    let mut client = UnixStream::connect(&group.servers[0].socket).unwrap();
    client.set_read_timeout(Some(service_lib::testing::BOUND)).unwrap();
    // A server that closes at once takes no more.
    let _ = client.write_all(bytes);
    let mut told = Vec::new();
    let _ = client.read_to_end(&mut told);
    String::from_utf8(told).unwrap()
}

#[test]
fn mistakes_are_told_and_requests_of_http_are_not_carried_out() {
    let group = Group::start();
    let mistake = "-ERR Protocol error: too big inline request\r\n";
    assert_eq!(told(&group, &[b'x'; 900_000]), mistake);
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n";
    assert_eq!(told(&group, post.as_bytes()), "");
    assert_eq!(told(&group, b"host: localhost\r\n\r\nPING\r\nQUIT\r\n"), "");
    assert_eq!(told(&group, b"PING\r\nQUIT\r\n"), "+PONG\r\n+OK\r\n");
}
