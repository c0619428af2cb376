//! The state machine alone: every command has the semantics of Redis, and time is the log's.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use bytes::Bytes;
use kv::KvStore;
use kv::command::{Command, Output, Query};
use kv::limits::{EXPIRED_PER_ENTRY_MAX, VALUE_BYTES_MAX};
use kv::resp::Reply;
use plainsong::{Context, Index, Snapshot as _, StateMachine, Timestamp};

mod common;
use common::{Random, run, text};

/// Runs lines of `time | request | reply` on a new store.
#[track_caller]
fn script(lines: &str) {
    let mut store = KvStore::default();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [time, request, reply] = parts[..] else { panic!("not a line: {line}") };
        let words: Vec<&str> = request.split_whitespace().collect();
        let got = run(&mut store, time.parse().unwrap(), &words);
        assert_eq!(text(&got), reply, "{line}");
    }
}

#[test]
fn values_are_set_and_read() {
    script(
        r#"
        0 | GET a          | nil
        0 | SET a 1        | OK
        0 | GET a          | "1"
        0 | SET a 2 NX     | nil
        0 | SET b 2 XX     | nil
        0 | SET a 3 XX GET | "1"
        0 | SET c 4 NX GET | nil
        0 | SET c 5 NX GET | "4"
        0 | SETNX c 6      | :0
        0 | SETNX d 6      | :1
        0 | GETSET d 7     | "6"
        0 | GETDEL d       | "7"
        0 | GETDEL d       | nil
        0 | MSET a 1 b 2 a 3 | OK
        0 | MGET a x b     | ["3" nil "2"]
        0 | DEL a x a b    | :2
        0 | EXISTS c c x   | :2
        0 | TYPE c         | string
        0 | TYPE x         | none
        0 | UNLINK c       | :1
        0 | DBSIZE         | :0
        "#,
    );
}

#[test]
fn invalid_requests_are_rejected_with_the_texts_of_redis() {
    script(
        r#"
        0 | GET              | -ERR wrong number of arguments for 'get' command
        0 | MSET a 1 b       | -ERR wrong number of arguments for 'mset' command
        0 | SET a 1 NX XX    | -ERR syntax error
        0 | SET a 1 EX       | -ERR syntax error
        0 | SET a 1 EX 1 PX 1 | -ERR syntax error
        0 | SET a 1 KEEPTTL EX 1 | -ERR syntax error
        0 | SET a 1 EX x     | -ERR value is not an integer or out of range
        0 | SET a 1 EX 0     | -ERR invalid expire time in 'set' command
        0 | SETEX a -1 1     | -ERR invalid expire time in 'setex' command
        0 | SET a 1 EX 9223372036854775807 | -ERR invalid expire time in 'set' command
        0 | SET a 1 PX 9223372036854775807 | -ERR invalid expire time in 'set' command
        0 | EXPIRE a 1 NX GT | -ERR NX and XX, GT or LT options at the same time are not compatible
        0 | EXPIRE a 1 LT GT | -ERR GT and LT options at the same time are not compatible
        0 | EXPIRE a 1 ZZ    | -ERR Unsupported option ZZ
        0 | SCAN x           | -ERR invalid cursor
        0 | SCAN 0 COUNT 0   | -ERR syntax error
        0 | SCAN 0 COUNT     | -ERR syntax error
        0 | DBSIZE           | :0
        "#,
    );
}

#[test]
fn numbers_are_incremented_and_checked() {
    script(
        r#"
        0 | INCR n        | :1
        0 | INCRBY n 41   | :42
        0 | DECR n        | :41
        0 | DECRBY n -1   | :42
        0 | GET n         | "42"
        0 | INCRBY n 1.5  | -ERR value is not an integer or out of range
        0 | SET n 9223372036854775807 | OK
        0 | INCR n        | -ERR increment or decrement would overflow
        0 | GET n         | "9223372036854775807"
        0 | DECRBY n -9223372036854775808 | -ERR decrement would overflow
        0 | SET n 007     | OK
        0 | INCR n        | -ERR value is not an integer or out of range
        0 | APPEND s ab   | :2
        0 | APPEND s c    | :3
        0 | GET s         | "abc"
        0 | STRLEN s      | :3
        0 | STRLEN x      | :0
        "#,
    );
}

#[test]
fn an_expired_key_is_absent_for_every_command() {
    script(
        r#"
        1000 | SET a 1 PX 500  | OK
        1000 | TTL a           | :1
        1000 | PTTL a          | :500
        1000 | PEXPIRETIME a   | :1500
        1499 | GET a           | "1"
        1500 | GET a           | nil
        1500 | PTTL a          | :-2
        1600 | SET a 1 EX 2    | OK
        1600 | INCR a          | :2
        1700 | PTTL a          | :1900
        1700 | APPEND a 0      | :2
        1700 | PTTL a          | :1900
        1700 | SET a 5 KEEPTTL | OK
        1700 | PTTL a          | :1900
        1700 | SET a 5         | OK
        1700 | PTTL a          | :-1
        1700 | SET a 5 PXAT 1700 | OK
        1700 | EXISTS a        | :0
        1700 | SET a 5 EX 1    | OK
        2700 | INCR a          | :1
        2700 | TTL a           | :-1
        2700 | SET a 5 EX 1    | OK
        3700 | SET a 6 XX      | nil
        3700 | SET a 6 NX GET  | nil
        3700 | EXPIRE a 1      | :1
        4700 | PERSIST a       | :0
        4700 | APPEND a x      | :1
        4700 | EXPIRE a 1      | :1
        4700 | PERSIST a       | :1
        9999 | GET a           | "x"
        9999 | GETEX a PX 1    | "x"
        9999 | GETEX a PERSIST | "x"
        9999 | PTTL a          | :-1
        9999 | MSET b 1        | OK
        9999 | PEXPIRE b 1     | :1
        9999 | DBSIZE          | :2
       10000 | DBSIZE          | :1
       10000 | DEL b           | :0
       10000 | PEXPIRE a -1    | :1
       10000 | DBSIZE          | :0
       10000 | EXPIRE a 10     | :0
        "#,
    );
}

#[test]
fn an_expiry_is_changed_on_conditions() {
    script(
        r#"
        0 | SET a 1            | OK
        0 | PEXPIRE a 100 XX   | :0
        0 | PEXPIRE a 100 GT   | :0
        0 | PEXPIRE a 100 NX   | :1
        0 | PEXPIRE a 200 NX   | :0
        0 | PEXPIRE a 50 GT    | :0
        0 | PEXPIRE a 200 GT   | :1
        0 | PEXPIRE a 300 LT   | :0
        0 | PEXPIRE a 150 XX LT | :1
        0 | PTTL a             | :150
        0 | PERSIST a          | :1
        0 | PEXPIRE a 150 LT   | :1
        0 | EXPIREAT a 1       | :1
        0 | PTTL a             | :1000
        0 | EXPIRETIME a       | :1
        "#,
    );
}

#[test]
fn values_stay_within_their_limit() {
    let mut store = KvStore::default();
    let long = "x".repeat(VALUE_BYTES_MAX);
    assert_eq!(text(&run(&mut store, 0, &["SET", "a", &long])), "OK");
    let refused = text(&run(&mut store, 0, &["APPEND", "a", "x"]));
    assert!(refused.starts_with("-ERR string exceeds maximum allowed size"), "{refused}");
    assert_eq!(text(&run(&mut store, 0, &["STRLEN", "a"])), format!(":{VALUE_BYTES_MAX}"));
    let refused = text(&run(&mut store, 0, &["SET", "a", &format!("{long}x")]));
    assert!(refused.starts_with("-ERR string exceeds maximum allowed size"), "{refused}");
    let mut many = vec!["MGET"];
    many.extend(vec!["a"; 17]);
    let refused = text(&run(&mut store, 0, &many));
    assert!(refused.starts_with("-ERR the reply exceeds the maximum"), "{refused}");
}

#[test]
fn memory_of_expired_keys_is_freed_gradually() {
    let mut store = KvStore::default();
    let keys = EXPIRED_PER_ENTRY_MAX + 1;
    for key in 0..keys {
        run(&mut store, 0, &["SET", &key.to_string(), "1", "PX", "10"]);
    }
    let room = |store: &KvStore| format!("{store:?}").matches("Entry").count();
    for left in [1, 0] {
        assert_eq!(store.wake_at(), Some(Timestamp(10)));
        store.wake(&Context::new(Index(1), Timestamp(10)));
        assert_eq!(room(&store), left);
        let counted = store.answer(Query::Count, Timestamp(10));
        assert_eq!(counted, Output::Counted { keys: 0, expiring: 0 });
    }
    assert_eq!(store.wake_at(), None);
}

/// A key that exists from the first to the last call of a scan is returned, whatever other keys
/// come and go. Redis guarantees that as well; kv returns it exactly once.
#[test]
fn a_scan_returns_every_key_that_stays() {
    let mut random = Random::new(7);
    let mut store = KvStore::default();
    for key in 0..500 {
        run(&mut store, 0, &["SET", &format!("stays:{key}"), "1"]);
    }
    let mut met = Vec::new();
    let mut cursor = "0".to_string();
    loop {
        for _ in 0..20 {
            let key = format!("goes:{}", random.below(200));
            let verb = if random.below(2) == 0 { "DEL" } else { "APPEND" };
            let value: &[&str] = if verb == "DEL" { &[] } else { &["x"] };
            run(&mut store, 0, &[&[verb, &key], value].concat());
        }
        let count = random.pick(&["1", "7", "10", "100"]);
        let reply = run(&mut store, 0, &["SCAN", &cursor, "MATCH", "stays:*", "COUNT", count]);
        let Reply::Array(parts) = reply else { panic!("{reply:?}") };
        let [Reply::BulkString(next), Reply::Array(keys)] = &parts[..] else { panic!("{parts:?}") };
        met.extend(keys.iter().map(text));
        cursor = String::from_utf8(next.to_vec()).unwrap();
        if cursor == "0" {
            break;
        }
    }
    met.sort();
    let mut all: Vec<String> = (0..500).map(|key| format!("\"stays:{key}\"")).collect();
    all.sort();
    assert_eq!(met, all);
}

#[test]
fn a_scan_omits_expired_keys_and_other_types() {
    script(
        r#"
        0 | SET a 1             | OK
        0 | SET b 1 PX 10       | OK
        9 | SCAN 0 TYPE hash    | ["0" []]
       10 | SCAN 0 TYPE STRING  | ["0" ["a"]]
       10 | SCAN 0 MATCH [^a]   | ["0" []]
       10 | SCAN 18446744073709551615 | ["0" []]
        "#,
    );
}

#[test]
fn the_encoding_of_a_command_has_little_overhead() {
    let value = Bytes::from(vec![7; 1000]);
    let command = Command::Set {
        key: "key".into(),
        value,
        condition: Default::default(),
        expiry: Default::default(),
        get: false,
    };
    let bytes = bincode::serialize(&command).unwrap();
    assert!(bytes.len() < 1040, "{}", bytes.len());
    assert_eq!(bincode::deserialize::<Command>(&bytes).unwrap(), command);
}

#[test]
fn a_snapshot_is_consistent_and_deterministic() {
    let mut store = KvStore::default();
    for key in 0..1000_usize {
        let (key, value) = (format!("key {key}"), "v".repeat(key));
        let deadline = (key.len() + value.len()).to_string();
        run(&mut store, 1, &["SET", &key, &value]);
        if value.len() % 3 == 0 {
            run(&mut store, 1, &["PEXPIRE", &key, &deadline]);
        }
    }
    let (then, view) = (store.clone(), store.snapshot());
    run(&mut store, 1, &["SET", "key 7", "another"]);
    run(&mut store, 1, &["DEL", "key 8"]);
    let mut bytes = Vec::new();
    view.write(&mut bytes).unwrap();
    let mut restored = store.clone();
    restored.restore(&mut &bytes[..]).unwrap();
    assert_eq!(restored, then);
    let mut again = Vec::new();
    restored.snapshot().write(&mut again).unwrap();
    assert_eq!(again, bytes);
    assert!(restored.restore(&mut &bytes[..bytes.len() - 1]).is_err());
}
