//! Clients cannot use up the descriptors that the log, the snapshots and the group need.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::{PROGRAM, Serve, ready};

const DEADLINE: Duration = Duration::from_secs(60);

/// Starts three replicas on disk with frequent snapshots and this limit of descriptors.
fn group(limit: &str, directory: &std::path::Path) -> Vec<Serve> {
    let replicas: Vec<_> = (1..=3)
        .map(|id| {
            let mut command = Command::new("sh");
            let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
            command.args(["-c", &script, PROGRAM]);
            let data = directory.join(id.to_string());
            let more = ["--data-dir", data.to_str().unwrap(), "--snapshot-every", "20"];
            Serve::start_by(command, id, &directory.join("ring"), &more)
        })
        .collect();
    replicas.iter().for_each(|replica| ready(replica.address));
    replicas
}

/// Connects. Returns the connection and the answer to a PING.
fn ping(address: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // A rejected connection may be closed before the PING.
    let _ = stream.write_all(b"PING\r\n");
    let mut answer = String::new();
    let _ = BufReader::new(&stream).read_line(&mut answer);
    (stream, answer.trim_end().to_owned())
}

#[test]
fn clients_above_the_descriptor_limit_are_rejected_and_the_group_works() {
    let directory = tempfile::tempdir().unwrap();
    // Sets the hard limit, too, so that kv cannot raise the soft limit.
    let replicas = group("-n 300", directory.path());
    let mut first = replicas[0].client();
    let clients: Vec<_> = (0..400).map(|_| ping(replicas[0].address)).collect();
    let served = clients.iter().filter(|(_, answer)| answer == "+PONG").count();
    assert!((100..=150).contains(&served), "{served} of 400 clients are served");
    let refused = clients.iter().filter(|(_, answer)| answer.contains("max number of clients"));
    assert!(refused.count() > 0, "no client received the error");
    for number in 0..100 {
        assert_eq!(first.ask(&format!("SET key {number}")), "OK");
    }
    drop(clients);
    for replica in &replicas[1..] {
        assert_ne!(replica.info("role"), "stopped");
    }
}

#[test]
fn the_soft_limit_is_raised() {
    let directory = tempfile::tempdir().unwrap();
    let replicas = group("-Sn 300", directory.path());
    let clients: Vec<_> = (0..400).map(|_| ping(replicas[1].address)).collect();
    let refused: Vec<_> = clients.iter().filter(|(_, answer)| answer != "+PONG").collect();
    assert!(refused.is_empty(), "{refused:?}");
}
