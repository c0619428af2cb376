//! Tests Redis client libraries with their default settings against three replicas.
//!
//! `tests/run --prepare` installs them in `target/clients`. The conversations are in
//! `tests/clients`.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

mod common;
use common::{Demo, Serve, have, skipped, until};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Returns the path of a client library that `tests/run --prepare` installs, or `None` if it is not
/// installed.
fn installed(path: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients");
    let found = folder.join(path);
    if found.exists() {
        return Some(found);
    }
    skipped(&format!("{} is missing: run tests/run --prepare", found.display()));
    None
}

#[track_caller]
fn talk(command: &mut Command) {
    let output = command.output().expect("the client runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("done\n"), "{out}\n{err}");
}

/// Runs a conversation with each of three replicas in turn.
#[track_caller]
fn talk_to_three(command: impl Fn(SocketAddr) -> Command) {
    let demo = Demo::start();
    for address in &demo.addresses {
        talk(&mut command(*address));
    }
}

#[test]
fn redis_py_works_with_its_defaults() {
    let Some(python) = installed("python/bin/python") else { return };
    talk_to_three(|address| {
        let mut command = Command::new(&python);
        command.arg(scripts().join("redis_py.py")).arg(address.port().to_string());
        command
    });
}

#[test]
fn redis_py_works_over_tls() {
    let Some(python) = installed("python/bin/python") else { return };
    if !have("openssl", "openssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = common::certificate(directory.path(), "server");
    let files = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let local = directory.path().join("kv.sock");
    let socket = ["--socket", local.to_str().unwrap()];
    let ring = directory.path().join("ring");
    let serve = Serve::start_alone(&ring, &[&files[..], &socket[..]].concat());
    until("a replica that commits", || {
        let local = std::os::unix::net::UnixStream::connect(&local).ok()?;
        (common::TestClient::over(local).ask("SET ready 1") == "OK").then_some(())
    });
    let mut command = Command::new(&python);
    command.arg(scripts().join("redis_py.py")).arg(serve.address.port().to_string()).arg(&cert);
    talk(&mut command);
}

fn node(script: &str) {
    let Some(packages) = installed("node/node_modules") else { return };
    if !have("node", "nodejs") {
        return;
    }
    talk_to_three(|address| {
        let mut command = Command::new("node");
        command.env("NODE_CLIENTS", packages.parent().unwrap());
        command.arg(scripts().join(script)).arg(address.port().to_string());
        command
    });
}

#[test]
fn node_redis_works_with_its_defaults() {
    node("node_redis.mjs");
}

#[test]
fn ioredis_works_with_its_defaults() {
    node("ioredis.mjs");
}

#[test]
fn the_redis_crate_works_with_its_defaults() {
    let Some(program) = installed("rust/debug/redis-crate-talks-to-kv") else { return };
    talk_to_three(|address| {
        let mut command = Command::new(&program);
        command.arg(address.port().to_string());
        command
    });
}
