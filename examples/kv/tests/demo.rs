//! The demo: `kv` without a subcommand.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::process::{Command, Output};

use rustix::process::Signal;

mod common;
use common::{Demo, TestClient, have, kv, until};

fn redis_cli(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &port.to_string()])
        .args(arguments)
        .output()
        .expect("redis-cli");
    stdout_of(&output)
}

fn stdout_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_key_set_at_one_port_can_be_read_at_another() {
    if !have("redis-cli", "redis-tools") {
        return;
    }
    let demo = Demo::start();
    let [first, second, third] = demo.addresses[..] else { panic!("three addresses") };
    assert_eq!(redis_cli(first.port(), &["SET", "greeting", "hello", "EX", "100"]), "OK");
    assert_eq!(redis_cli(third.port(), &["GET", "greeting"]), "hello");
    let ttl: i64 = redis_cli(second.port(), &["TTL", "greeting"]).parse().unwrap();
    assert!((90..=100).contains(&ttl), "{ttl}");
    let info = redis_cli(second.port(), &["INFO"]);
    assert!(info.contains("voters:1,2,3") && info.contains("db0:keys=1,expires=1"), "{info}");
    assert!(redis_cli(first.port(), &["NOPE", "a"]).starts_with("ERR unknown command 'NOPE'"));
    assert_eq!(redis_cli(first.port(), &["--scan"]), "greeting");
}

#[test]
fn redis_benchmark_runs_at_every_port() {
    if !have("redis-benchmark", "redis-tools") {
        return;
    }
    let demo = Demo::start();
    for address in &demo.addresses {
        let output = Command::new("timeout")
            .args(["60", "redis-benchmark", "-p", &address.port().to_string()])
            .args(["-t", "set,get", "-P", "16", "-n", "20000", "-q"])
            .output()
            .expect("redis-benchmark");
        let text = format!("{}{}", stdout_of(&output), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}");
        assert!(text.contains("requests per second"), "{text}");
        assert!(!text.contains("WARNING"), "{text}");
    }
}

#[test]
fn the_demo_reports_changes_and_stops_on_ctrl_c_and_sigterm() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Demo::start();
        let mut client = TestClient::connect(demo.addresses[1]).unwrap();
        assert_eq!(client.ask("SET a 1"), "OK");
        let has_line = |start: &str, end: &str| {
            demo.process.out().iter().any(|line| line.starts_with(start) && line.ends_with(end))
        };
        for (start, end) in [
            ("replica 1: ", "members 1 2 3"),
            ("replica 2: ", "members 1 2 3"),
            ("replica 3: ", "members 1 2 3"),
            ("committed: replica 1 at ", ""),
        ] {
            until(&format!("a line {start}...{end}"), || has_line(start, end).then_some(()));
        }
        demo.process.signal(signal);
        let status = demo.process.ended();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert_eq!(demo.process.err(), [""; 0], "nothing on stderr");
    }
}

#[test]
fn a_busy_port_is_reported_with_a_remedy() {
    let demo = Demo::start();
    let port = demo.addresses[0].port().to_string();
    let mut second = kv(&["--port", &port]);
    assert_eq!(second.ended().code(), Some(1));
    let lines = until("a line on stderr", || Some(second.err()).filter(|l| !l.is_empty()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(&format!("kv: cannot listen on 127.0.0.1:{port}: ")), "{lines:?}");
    assert!(lines[0].ends_with("choose another port with --port"), "{lines:?}");
}
