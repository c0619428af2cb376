//! Commands of one connection take effect in the order in which they were sent, in real groups of
//! three replicas: a read sees all writes sent before it, and none sent after it.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;
use common::{Demo, TestClient, request, text};

/// Sends the lines at once, and returns the replies.
fn pipeline(client: &mut TestClient, lines: &[&str]) -> Vec<String> {
    client.send(format!("{}\r\n", lines.join("\r\n")).as_bytes()).unwrap();
    lines.iter().map(|_| text(&client.reply().unwrap())).collect()
}

/// Lines to send at once, and the expected replies.
type Pipeline = &'static [(&'static str, &'static str)];

const PIPELINES: &[Pipeline] = &[
    &[("GET k", "\"old\""), ("DEL k", ":1")],
    &[("EXISTS n", ":0"), ("SET n 1", "OK")],
    &[("GET c", "\"5\""), ("INCR c", ":6"), ("GET c", "\"6\""), ("INCR c", ":7")],
    &[("SET k 1", "OK"), ("GET k", "\"1\""), ("SET k 2", "OK"), ("GET k", "\"2\"")],
    &[
        ("MGET k n", "[\"old\" nil]"),
        ("MULTI", "OK"),
        ("APPEND k er", "QUEUED"),
        ("GET k", "QUEUED"),
        ("EXEC", "[:5 \"older\"]"),
        ("STRLEN k", ":5"),
        ("SETNX n 1", ":1"),
    ],
    &[
        ("WATCH k", "OK"),
        ("SET k 1", "OK"),
        ("WATCH n", "OK"),
        ("MULTI", "OK"),
        ("SET n 1", "QUEUED"),
        ("EXEC", "nil-list"),
        ("EXISTS n", ":0"),
    ],
    &[
        ("SET n 1 PX 100000", "OK"),
        ("WATCH n", "OK"),
        ("MULTI", "OK"),
        ("PERSIST n", "QUEUED"),
        ("EXEC", "[:1]"),
        ("TTL n", ":-1"),
        ("GETDEL n", "\"1\""),
        ("GET n", "nil"),
    ],
];

fn pipelines_take_effect_in_order(mode: &str) {
    let group = Demo::start();
    for address in &group.addresses {
        let mut client = TestClient::connect(*address).unwrap();
        assert_eq!(client.ask(mode), "OK");
        for round in 0..30 {
            for lines in PIPELINES {
                assert_eq!(client.ask("MSET k old c 5"), "OK");
                client.ask("DEL n");
                let (lines, replies): (Vec<&str>, Vec<&str>) = lines.iter().copied().unzip();
                assert_eq!(pipeline(&mut client, &lines), replies, "round {round}: {lines:?}");
            }
        }
    }
}

#[test]
fn reads_see_exactly_the_earlier_writes() {
    pipelines_take_effect_in_order("READWRITE");
}

#[test]
fn local_reads_see_exactly_the_earlier_writes() {
    pipelines_take_effect_in_order("READONLY");
}

#[test]
fn read_modes_do_not_change_the_order() {
    let group = Demo::start();
    let mut client = TestClient::connect(group.addresses[2]).unwrap();
    for round in 0..100 {
        let lines = [
            "SET k 1",
            "READONLY",
            "GET k",
            "READWRITE",
            "GET k",
            "INCR k",
            "READONLY",
            "GET k",
            "INCR k",
            "READWRITE",
            "GET k",
            "DEL k",
        ];
        let replies =
            ["OK", "OK", "\"1\"", "OK", "\"1\"", ":2", "OK", "\"2\"", ":3", "OK", "\"3\"", ":1"];
        assert_eq!(pipeline(&mut client, &lines), replies, "round {round}");
    }
}

#[test]
fn a_subscriber_receives_no_changes_from_before_it_subscribed() {
    let group = Demo::start();
    let mut client = TestClient::connect(group.addresses[1]).unwrap();
    for round in 0..50 {
        let replies = pipeline(&mut client, &["SET k 1", "SUBSCRIBE __keyspace@0__:k", "PING"]);
        assert_eq!(replies[0], "OK", "round {round}");
        assert_eq!(replies[2], "[\"pong\" \"\"]", "round {round}: {replies:?}");
        client.ask("UNSUBSCRIBE");
    }
}

/// The replies are longer than the socket buffers, and the client writes all its requests before it
/// reads any reply.
#[test]
fn a_write_after_long_replies_does_not_wait_for_the_client_to_read_them() {
    let group = Demo::start();
    let mut client = TestClient::connect(group.addresses[0]).unwrap();
    let value = "x".repeat(900_000);
    assert_eq!(text(&client.call(&["SET", "k", &value]).unwrap()), "OK");
    let mut bytes = request(&["GET", "k"]).repeat(40);
    bytes.extend(request(&["SET", "k", &value]));
    bytes.extend(request(&["STRLEN", "k"]));
    client.send(&bytes).unwrap();
    // More than the server reads at once, so it must continue to read.
    client.send(&request(&["SET", "k", &value]).repeat(20)).unwrap();
    for _ in 0..40 {
        assert_eq!(text(&client.reply().unwrap()).len(), value.len() + 2);
    }
    assert_eq!(text(&client.reply().unwrap()), "OK");
    assert_eq!(text(&client.reply().unwrap()), ":900000");
}
