//! Clients that read slowly receive all replies, with and without TLS.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use kv::resp::Reply;
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

mod common;
use common::{
    BOUND, Random, Serve, TestClient, certificate, have, request, text, tls, tls_over, until,
};

/// Connects with a very small receive buffer.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    connect(&socket, &address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

/// Requests more than the socket buffers hold, and reads the replies only after the server has
/// written as much as it can.
fn read_late<S: std::io::Read + std::io::Write>(
    mut client: TestClient<S>,
    other: &mut dyn FnMut(),
) {
    let mut random = Random::new(client.ask("ECHO 1").len() as u64);
    for _ in 0..12 {
        let value = "x".repeat(200_000 + random.index(790_000));
        let key = format!("k{}", random.number());
        assert_eq!(text(&client.call(&["SET", &key, &value]).unwrap()), "OK");
        let count = 4 + random.index(5);
        client.send(&request(&["GET", &key]).repeat(count)).unwrap();
        // Before each reply to another client, the server had a chance to write to this one.
        (0..20).for_each(|_| other());
        for _ in 0..count {
            let reply = client.reply().expect("all replies arrive");
            assert_eq!(reply, Reply::BulkString(value.clone().into()));
        }
    }
}

#[test]
fn slow_clients_receive_all_replies() {
    if !have("openssl", "openssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(directory.path(), "server");
    let socket = directory.path().join("kv.sock");
    let [cert_text, key, socket_text] =
        [&cert, &key, &socket].map(|path| path.display().to_string());
    let more = ["--tls-cert", &cert_text, "--tls-key", &key, "--socket", &socket_text];
    let serve = Serve::start_alone(&directory.path().join("ring"), &more);
    let mut first = tls(serve.address, &cert, None);
    until("a replica that commits", || (first.ask("SET a 1") == "OK").then_some(()));
    thread::scope(|scope| {
        for number in 0..6 {
            let (address, cert, socket) = (serve.address, &cert, &socket);
            scope.spawn(move || {
                let mut other = TestClient::over(UnixStream::connect(socket).unwrap());
                let mut other = || assert_eq!(other.ask("PING"), "PONG");
                if number == 5 {
                    let stream = UnixStream::connect(socket).unwrap();
                    stream.set_read_timeout(Some(BOUND)).unwrap();
                    return read_late(TestClient::over(stream), &mut other);
                }
                read_late(tls_over(narrow(address), cert, None), &mut other);
            });
        }
    });
}
