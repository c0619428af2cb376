//! Conversations of clients with the server: transactions, watched keys, subscriptions. If a real
//! `redis-server` is installed, it must give the same replies.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod connections;
mod keys;
mod subscriptions;
mod transactions;

use std::io::{Read, Write};
use std::time::Duration;

use common::{Redis, Test, TestClient, text};

const PATIENT: Duration = Duration::from_secs(30);

/// Plays lines of `client | request | reply`, for up to three clients. The request `...` sends
/// nothing and waits for a message. A request `!REQUEST` has no reply. The reply `~` matches any
/// reply.
#[track_caller]
fn play<S: Read + Write>(who: &str, script: &str, connect: impl Fn() -> TestClient<S>) {
    let mut clients: Vec<_> = (0..3).map(|_| connect()).collect();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [client, request, reply] = parts[..] else { panic!("not a line: {line}") };
        let client = &mut clients[client.parse::<usize>().unwrap() - 1];
        let got = match request {
            "..." => text(&client.reply().expect("a message")),
            request if request.starts_with('!') => {
                let words: Vec<&str> = request[1..].split_whitespace().collect();
                client.send(&common::request(&words)).expect("a connection");
                continue;
            }
            request => client.ask(request),
        };
        assert!(reply == "~" || got.trim_end() == reply, "{who}: {line}\n   but {got}");
    }
}

/// Plays a conversation with kv and with Redis.
#[track_caller]
fn same(script: &str) {
    let test = Test::start(PATIENT);
    play("we", script, || test.client());
    if Redis::is_there() {
        let directory = tempfile::tempdir().unwrap();
        let redis = Redis::start(directory.path());
        play("redis", script, || redis.client());
    }
}

/// Plays a conversation with kv only, about features that Redis 7.0 does not have.
#[track_caller]
fn ours(script: &str) {
    let test = Test::start(PATIENT);
    play("we", script, || test.client());
}
