//! Commands whose effects clients of other replicas see: `PUBLISH`, `KEYS` and `WAIT`.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::thread;

use kv::resp::Reply;

mod common;
use common::{Demo, TestClient, request, text, until};

/// Subscribers at all replicas receive every message, in one order.
#[test]
fn messages_reach_the_subscribers_at_all_replicas_in_one_order() {
    const MESSAGES: usize = 200;
    let demo = Demo::start();
    let mut listeners: Vec<_> =
        demo.addresses.iter().map(|address| TestClient::connect(*address).unwrap()).collect();
    for listener in &mut listeners {
        assert_eq!(listener.ask("SUBSCRIBE news"), "[\"subscribe\" \"news\" :1]");
    }
    let publish = |number: usize| {
        let mut client = TestClient::connect(demo.addresses[number]).unwrap();
        thread::spawn(move || {
            let message = |at: usize| request(&["PUBLISH", "news", &format!("{number}:{at}")]);
            client.send(&(0..MESSAGES).flat_map(message).collect::<Vec<_>>()).unwrap();
            for _ in 0..MESSAGES {
                // Counts the subscribers of the replica asked only.
                assert_eq!(text(&client.reply().unwrap()), ":1");
            }
        })
    };
    let publishers: Vec<_> = (0..3).map(publish).collect();
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    let heard: Vec<Vec<String>> = listeners
        .iter_mut()
        .map(|listener| {
            (0..3 * MESSAGES).map(|_| text(&listener.reply().unwrap())).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(heard[0], heard[1]);
    assert_eq!(heard[0], heard[2]);
    assert_eq!(heard[0].iter().collect::<BTreeSet<_>>().len(), 3 * MESSAGES);
    for number in 0..3 {
        let prefix = format!("[\"message\" \"news\" \"{number}:");
        let own: Vec<_> = heard[0].iter().filter(|line| line.starts_with(&prefix)).collect();
        let sent: Vec<_> = (0..MESSAGES).map(|at| format!("{prefix}{at}\"]")).collect();
        assert_eq!(own, sent.iter().collect::<Vec<_>>());
    }
}

/// If a transaction replaces some keys by others, `KEYS` returns either all the old or all the new
/// ones.
#[test]
fn keys_returns_the_keys_of_one_moment() {
    const KEYS: usize = 3_000;
    let demo = Demo::start();
    let mut writer = TestClient::connect(demo.addresses[0]).unwrap();
    let mset = |mark: &str| {
        let pairs = (0..KEYS).flat_map(|key| [format!("{mark}{key}"), "1".to_owned()]);
        std::iter::once("MSET".to_owned()).chain(pairs).collect::<Vec<_>>()
    };
    assert_eq!(text(&writer.call(&mset("a")).unwrap()), "OK");
    let turns = thread::spawn(move || {
        for turn in 0..20 {
            let mark = if turn % 2 == 0 { "b" } else { "a" };
            assert_eq!(writer.ask("MULTI"), "OK");
            assert_eq!(writer.ask("FLUSHALL"), "QUEUED");
            assert_eq!(text(&writer.call(&mset(mark)).unwrap()), "QUEUED");
            assert_eq!(writer.ask("EXEC"), "[OK OK]");
        }
    });
    let mut reader = TestClient::connect(demo.addresses[1]).unwrap();
    let mut looked = 0;
    while !turns.is_finished() || looked == 0 {
        let Reply::Array(keys) = reader.call(&["KEYS", "*"]).unwrap() else { panic!("no keys") };
        let marks: BTreeSet<_> = keys.iter().map(|key| text(key)[1..2].to_owned()).collect();
        assert_eq!((keys.len(), marks.len()), (KEYS, 1), "{marks:?}");
        looked += 1;
    }
    turns.join().unwrap();
    let found = reader.call(&["KEYS", "*99?"]).unwrap();
    let Reply::Array(found) = found else { panic!("{found:?}") };
    assert_eq!(found.len(), 30);
}

#[test]
fn wait_blocks_until_other_replicas_have_acknowledged() {
    let demo = Demo::start();
    let mut client = TestClient::connect(demo.addresses[2]).unwrap();
    until("all replicas", || {
        client.send(&[request(&["SET", "a", "1"]), request(&["WAIT", "2", "0"])].concat()).unwrap();
        assert_eq!(text(&client.reply().unwrap()), "OK");
        (text(&client.reply().unwrap()) == ":2").then_some(())
    });
    // There are not that many replicas, so it returns their number after the timeout.
    assert_eq!(client.ask("WAIT 3 100"), ":2");
    let role = client.ask("ROLE");
    assert!(role.starts_with("[\"master\" :") && role.ends_with(" []]"), "{role}");
    let random: BTreeSet<_> = {
        for key in 0..50 {
            client.ask(&format!("SET key:{key} 1"));
        }
        (0..200).map(|_| client.ask("RANDOMKEY")).collect()
    };
    assert!(random.len() > 10, "{random:?}");
}
