//! Passwords, the consistency of reads, memory limits and subscriptions, with a fake backend.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use kv::limits::{CHANGED_KEY_BYTES_MAX, CHANGES_MAX, MESSAGES_BYTES_MAX, SUBSCRIPTIONS_MAX};
use kv::server::{Password, ServerConfig};
use plainsong::{Consistency, Snapshot as _, StateMachine as _};

mod common;
use common::{Test, request, text, until};

const PATIENT: Duration = Duration::from_secs(30);

fn config() -> ServerConfig {
    ServerConfig::new(PATIENT)
}

#[test]
fn requests_need_authentication_first() {
    let password = Password::from_file_text(b"secret\n");
    let test = Test::start_with(ServerConfig { password, ..config() });
    let mut client = test.client();
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    let first = "-NOAUTH Authentication required.";
    for (request, reply) in [
        ("GET a", first),
        ("PING", first),
        ("MULTI", first),
        ("SUBSCRIBE a", first),
        ("MEMBERS", first),
        ("INFO", first),
        ("AUTH wrong", wrong),
        ("AUTH secre", wrong),
        ("AUTH admin secret", wrong),
        ("AUTH default", wrong),
        ("AUTH a b c", "-ERR syntax error"),
        ("GET a", first),
        (
            "HELLO 2",
            "-NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ),
        ("HELLO 2 AUTH default wrong", wrong),
        ("GET a", first),
        ("AUTH secret", "OK"),
        ("GET a", "nil"),
        ("AUTH wrong", wrong),
        ("GET a", "nil"),
        ("RESET", "RESET"),
        ("GET a", first),
        ("AUTH default secret", "OK"),
        ("GET a", "nil"),
    ] {
        assert_eq!(client.ask(request), reply, "{request}");
    }
    let mut client = test.client();
    let hello = client.ask("HELLO 2 AUTH default secret SETNAME me");
    assert!(hello.contains("\"proto\" :2"), "{hello}");
    assert_eq!(client.ask("CLIENT GETNAME"), "\"me\"");
}

#[test]
fn without_a_password_the_only_user_is_default() {
    let test = Test::start(PATIENT);
    let mut client = test.client();
    assert_eq!(client.ask("AUTH default anything"), "OK");
    let refused = client.ask("AUTH somebody anything");
    assert!(refused.starts_with("-WRONGPASS"), "{refused}");
}

#[test]
fn a_full_store_rejects_commands_that_make_it_larger() {
    let test = Test::start_with(ServerConfig { memory_bytes_max: Some(10_000), ..config() });
    let mut client = test.client();
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(client.ask("CONFIG GET maxmemory"), "[\"maxmemory\" \"10000\"]");
    assert_eq!(text(&client.call(&["SET", "big", &"x".repeat(12_000)]).unwrap()), "OK");
    for request in ["SET a 1", "INCR a", "APPEND a 1", "MSET a 1", "SETNX a 1", "SETRANGE a 1 x"] {
        assert_eq!(client.ask(request), oom, "{request}");
    }
    assert_eq!(client.ask("STRLEN big"), ":12000", "reads go on");
    assert_eq!(client.ask("EXPIRE big 100"), ":1", "and what makes nothing larger");
    assert_eq!(client.ask("MULTI"), "OK");
    assert_eq!(client.ask("SET a 1"), oom);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(client.ask("EXEC"), aborted);
    let info = client.ask("INFO memory");
    for field in ["used_memory:12163\\r\\n", "maxmemory:10000\\r\\n"] {
        assert!(info.contains(field), "{info}");
    }
    assert_eq!(client.ask("DEL big"), ":1");
    assert_eq!(client.ask("SET a 1"), "OK");
    // Queued while there was room, and executed when there is none.
    let mut other = test.client();
    assert_eq!(client.ask("MULTI"), "OK");
    assert_eq!(client.ask("SET a 2"), "QUEUED");
    assert_eq!(text(&other.call(&["SET", "big", &"x".repeat(12_000)]).unwrap()), "OK");
    assert_eq!(
        client.ask("EXEC"),
        "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > \
         'maxmemory'."
    );
    assert_eq!(client.ask("GET a"), "\"1\"");
}

#[test]
fn each_connection_chooses_the_consistency_of_its_reads() {
    let test = Test::start(PATIENT);
    let (mut local, mut other) = (test.client(), test.client());
    let asked = |client: &mut common::TestClient, request: &str| {
        client.ask(request);
        std::mem::take(&mut *test.fake.0.reads.lock().unwrap())
    };
    assert_eq!(asked(&mut local, "GET a"), [Consistency::Linearizable]);
    assert_eq!(asked(&mut local, "READONLY"), []);
    assert_eq!(asked(&mut local, "GET a"), [Consistency::Local]);
    assert_eq!(asked(&mut local, "SCAN 0"), [Consistency::Local]);
    assert_eq!(
        asked(&mut other, "GET a"),
        [Consistency::Linearizable],
        "another connection is not affected"
    );
    assert_eq!(asked(&mut local, "SET a 1"), [], "writes are still accepted");
    assert_eq!(asked(&mut local, "READWRITE"), []);
    assert_eq!(asked(&mut local, "GET a"), [Consistency::Linearizable]);
    asked(&mut local, "READONLY");
    asked(&mut local, "RESET");
    assert_eq!(asked(&mut local, "GET a"), [Consistency::Linearizable]);
}

#[test]
fn transactions_and_watched_keys_are_limited_in_size() {
    let test = Test::start(PATIENT);
    let mut client = test.client();
    let long = "x".repeat(600_000);
    assert_eq!(client.ask("MULTI"), "OK");
    assert_eq!(text(&client.call(&["SET", "a", &long]).unwrap()), "QUEUED");
    let refused = text(&client.call(&["SET", "b", &long]).unwrap());
    assert!(refused.starts_with("-ERR string exceeds maximum allowed size"), "{refused}");
    assert!(client.ask("EXEC").starts_with("-EXECABORT"));
    let refused = text(&client.call(&["WATCH", &long]).unwrap());
    assert!(refused.starts_with("-ERR string exceeds maximum allowed size"), "{refused}");
    assert_eq!(client.ask("DBSIZE"), ":0");
    // The reply to a transaction is limited, too. Steps above the limit are rejected, and change
    // nothing.
    let value = "x".repeat(900_000);
    assert_eq!(text(&client.call(&["SET", "a", &value]).unwrap()), "OK");
    assert_eq!(client.ask("MULTI"), "OK");
    for _ in 0..20 {
        client.ask("GET a");
    }
    assert_eq!(client.ask("GETDEL a"), "QUEUED");
    assert_eq!(client.ask("SET b 1"), "QUEUED");
    let replies = client.ask("EXEC");
    let refused = "-ERR the reply exceeds the maximum allowed size (16777216 bytes): request fewer \
                   values at once";
    assert!(replies.ends_with(&format!("{refused} {refused} OK]")), "{}", replies.len());
    assert_eq!(client.ask("EXISTS a b"), ":2");
}

#[test]
fn a_late_exec_reports_an_unknown_outcome() {
    let test = Test::start(Duration::from_millis(200));
    let mut client = test.client();
    client.ask("MULTI");
    client.ask("SET a 1");
    test.fake.0.silent.store(true, Ordering::SeqCst);
    let reply = client.ask("EXEC");
    assert!(reply.starts_with("-UNKNOWN outcome: no answer within 0.2 s"), "{reply}");
    let reply = client.ask("WATCH a");
    assert!(reply.starts_with("-CLUSTERDOWN no answer within 0.2 s"), "{reply}");
    test.fake.0.silent.store(false, Ordering::SeqCst);
    test.fake.0.full.store(true, Ordering::SeqCst);
    client.ask("MULTI");
    client.ask("SET a 2");
    let reply = client.ask("EXEC");
    assert!(reply.ends_with("the command has not taken effect"), "{reply}");
}

#[test]
fn a_subscriber_receives_every_change_or_is_disconnected() {
    let test = Test::start(PATIENT);
    let (mut listener, mut lazy, mut writer) = (test.client(), test.client(), test.client());
    for client in [&mut listener, &mut lazy] {
        client.ask("PSUBSCRIBE __keyevent@0__:*");
    }
    let writes = 3 * CHANGES_MAX;
    let mut heard = 0;
    // One subscriber reads after every write, so it receives everything. The other reads nothing.
    for part in 0..writes / 1024 {
        let requests: Vec<u8> = (0..1024)
            .flat_map(|n| request(&["SET", &format!("{}", part * 1024 + n), "1"]))
            .collect();
        writer.send(&requests).unwrap();
        for _ in 0..1024 {
            writer.reply().unwrap();
            let message = text(&listener.reply().unwrap());
            assert!(
                message.ends_with(&format!("\"__keyevent@0__:set\" \"{heard}\"]")),
                "{message}"
            );
            heard += 1;
        }
    }
    let mut last = String::new();
    let mut heard = 0;
    while let Ok(reply) = lazy.reply() {
        last = text(&reply);
        heard += 1;
    }
    assert!(last.starts_with("-ERR changes were missed"), "{last}");
    assert!(heard < writes, "{heard} of {writes}");
}

#[test]
fn changes_without_notices_disconnect_subscribers() {
    let test = Test::start(PATIENT);
    let store = &test.fake.0.store;
    let mut writer = test.client();
    for what in ["all keys deleted", "another state"] {
        let mut listener = test.client();
        listener.ask("PSUBSCRIBE *");
        if what == "another state" {
            let mut bytes = Vec::new();
            let mut store = store.lock().unwrap();
            store.snapshot().write(&mut bytes).unwrap();
            store.restore(&mut &bytes[..]).unwrap();
        } else {
            writer.ask("FLUSHALL");
        }
        let message = text(&listener.reply().unwrap());
        assert!(message.starts_with("-ERR changes were missed"), "{what}: {message}");
        assert!(listener.reply().is_err(), "{what}");
    }
}

#[test]
fn changes_of_long_keys_are_not_reported() {
    let test = Test::start(PATIENT);
    let (mut listener, mut writer) = (test.client(), test.client());
    listener.ask("SUBSCRIBE __keyevent@0__:set");
    writer.call(&["SET", &"x".repeat(CHANGED_KEY_BYTES_MAX + 1), "1"]).unwrap();
    writer.call(&["SET", "short", "1"]).unwrap();
    assert_eq!(text(&listener.reply().unwrap()), "[\"message\" \"__keyevent@0__:set\" \"short\"]");
}

#[test]
fn subscriptions_are_limited() {
    let test = Test::start(PATIENT);
    let mut client = test.client();
    let mut names = vec!["SUBSCRIBE".to_string()];
    names.extend((0..=SUBSCRIPTIONS_MAX).map(|name| name.to_string()));
    let refused = text(&client.call(&names).unwrap());
    assert_eq!(refused, "-ERR too many subscriptions (1024 at most for a client)");
    let refused = text(&client.call(&["PSUBSCRIBE", &"*".repeat(1025)]).unwrap());
    assert_eq!(refused, "-ERR pattern exceeds maximum allowed size (1024 bytes)");
    assert_eq!(client.ask("GET a"), "nil", "it has no subscriptions");
}

#[test]
fn a_key_is_reported_as_expired_when_it_expires() {
    let test = Test::start(PATIENT);
    let (mut listener, mut writer) = (test.client(), test.client());
    writer.ask("SET a 1 PX 5");
    listener.ask("SUBSCRIBE __keyevent@0__:expired");
    let context = plainsong::Context::new(plainsong::Index(9), plainsong::Timestamp(50));
    test.fake.0.store.lock().unwrap().wake(&context);
    assert_eq!(text(&listener.reply().unwrap()), "[\"message\" \"__keyevent@0__:expired\" \"a\"]");
}

#[test]
fn a_closed_connection_ends_its_subscriptions() {
    let test = Test::start(PATIENT);
    let mut listener = test.client();
    listener.ask("PSUBSCRIBE *");
    let mut writer = test.client();
    let clients = |client: &mut common::TestClient| client.ask("INFO clients");
    assert!(clients(&mut writer).contains("connected_clients:2"));
    drop(listener);
    until("one client", || clients(&mut writer).contains("connected_clients:1").then_some(()));
}

#[test]
fn a_subscriber_that_lags_is_told_that_it_missed_messages() {
    let test = Test::start(PATIENT);
    let (mut listener, mut writer) = (test.client(), test.client());
    assert_eq!(listener.ask("SUBSCRIBE news"), "[\"subscribe\" \"news\" :1]");
    // The subscriber reads nothing until more than the limit is buffered for it.
    let message = "x".repeat(900_000);
    let count = 4 * MESSAGES_BYTES_MAX / message.len();
    for _ in 0..count {
        assert_eq!(text(&writer.call(&["PUBLISH", "news", &message]).unwrap()), ":1");
    }
    let mut heard = 0;
    loop {
        let reply = text(&listener.reply().unwrap());
        if reply.starts_with("-ERR changes were missed") {
            break;
        }
        assert!(reply.starts_with("[\"message\" \"news\" "), "{reply:.99}");
        heard += 1;
    }
    assert!(heard < count, "{heard} of {count}");
    assert!(listener.reply().is_err());
}

#[test]
fn deleting_all_keys_disconnects_only_subscribers_to_keys() {
    let test = Test::start(PATIENT);
    let (mut listener, mut writer) = (test.client(), test.client());
    listener.ask("SUBSCRIBE news");
    listener.ask("PSUBSCRIBE other*");
    assert_eq!(writer.ask("FLUSHALL"), "OK");
    assert_eq!(writer.ask("PUBLISH news hi"), ":1");
    assert_eq!(text(&listener.reply().unwrap()), "[\"message\" \"news\" \"hi\"]");
    // A pattern that may match a channel for changes of keys.
    listener.ask("PSUBSCRIBE *");
    assert_eq!(writer.ask("FLUSHALL"), "OK");
    let reply = text(&listener.reply().unwrap());
    assert!(reply.starts_with("-ERR changes were missed"), "{reply}");
}
