//! `MULTI`, `EXEC` and `WATCH`.

use super::{PATIENT, same};
use crate::common::{Random, Redis, Test};

#[test]
fn a_transaction_gets_one_reply() {
    same(
        r#"
        1 | MULTI            | OK
        1 | SET a 1          | QUEUED
        1 | INCR a           | QUEUED
        2 | GET a            | nil
        1 | GET a            | QUEUED
        1 | GET x            | QUEUED
        1 | PING             | QUEUED
        1 | ECHO hello       | QUEUED
        1 | SELECT 0         | QUEUED
        1 | SELECT x         | QUEUED
        1 | SETNX a 5        | QUEUED
        1 | TYPE a           | QUEUED
        1 | MGET a x         | QUEUED
        1 | TTL a            | QUEUED
        1 | EXISTS a x       | QUEUED
        1 | EXEC             | [OK :2 "2" nil PONG "hello" OK -ERR value is not an integer or out of range :0 string ["2" nil] :-1 :1]
        2 | GET a            | "2"
        1 | MULTI            | OK
        1 | EXEC             | []
        1 | GET a            | "2"
        "#,
    );
}

#[test]
fn a_failing_command_does_not_abort_its_transaction() {
    same(
        r#"
        1 | MULTI        | OK
        1 | SET a x      | QUEUED
        1 | INCR a       | QUEUED
        1 | SET a 1 ZZ   | QUEUED
        1 | SET a y XX   | QUEUED
        1 | EXEC         | [OK -ERR value is not an integer or out of range -ERR syntax error OK]
        1 | GET a        | "y"
        "#,
    );
}

#[test]
fn a_command_that_cannot_be_queued_discards_the_transaction() {
    same(
        r#"
        1 | MULTI        | OK
        1 | SET a 1      | QUEUED
        1 | GET          | -ERR wrong number of arguments for 'get' command
        1 | SET b 1      | QUEUED
        1 | EXEC         | -EXECABORT Transaction discarded because of previous errors.
        1 | EXISTS a b   | :0
        1 | MULTI        | OK
        1 | SET a 1      | QUEUED
        1 | NOSUCH a     | -ERR unknown command 'NOSUCH', with args beginning with: 'a' 
        1 | EXEC         | -EXECABORT Transaction discarded because of previous errors.
        1 | EXISTS a     | :0
        1 | MULTI        | OK
        1 | SET a 1      | QUEUED
        1 | NOSUCH       | -ERR unknown command 'NOSUCH', with args beginning with: 
        1 | DISCARD      | OK
        1 | MULTI        | OK
        1 | SET a 1      | QUEUED
        1 | EXEC         | [OK]
        "#,
    );
}

#[test]
fn misplaced_transaction_commands_are_rejected() {
    same(
        r#"
        1 | EXEC         | -ERR EXEC without MULTI
        1 | DISCARD      | -ERR DISCARD without MULTI
        1 | MULTI        | OK
        1 | MULTI        | -ERR MULTI calls can not be nested
        1 | WATCH a      | -ERR WATCH inside MULTI is not allowed
        1 | SET a 1      | QUEUED
        1 | UNWATCH      | QUEUED
        1 | EXEC         | [OK OK]
        1 | EXEC         | -ERR EXEC without MULTI
        1 | MULTI        | OK
        1 | SET a 2      | QUEUED
        1 | DISCARD      | OK
        1 | DISCARD      | -ERR DISCARD without MULTI
        1 | GET a        | "1"
        1 | WATCH        | -ERR wrong number of arguments for 'watch' command
        "#,
    );
}

#[test]
fn a_changed_watched_key_aborts_the_transaction() {
    same(
        r#"
        1 | SET a 1      | OK
        1 | WATCH a b    | OK
        1 | MULTI        | OK
        1 | SET a 2      | QUEUED
        1 | EXEC         | [OK]
        1 | WATCH a      | OK
        2 | SET a 3      | OK
        1 | MULTI        | OK
        1 | SET a 4      | QUEUED
        1 | EXEC         | nil-list
        1 | GET a        | "3"
        1 | MULTI        | OK
        1 | SET a 4      | QUEUED
        1 | EXEC         | [OK]
        1 | WATCH b      | OK
        2 | SET b 1      | OK
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | nil-list
        1 | WATCH a      | OK
        2 | SET a 4      | OK
        1 | MULTI        | OK
        1 | EXEC         | nil-list
        1 | WATCH a      | OK
        2 | DEL a        | :1
        2 | SET a 4      | OK
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | nil-list
        1 | WATCH a      | OK
        2 | EXPIRE a 100 | :1
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | nil-list
        1 | WATCH a      | OK
        1 | SET a 5      | OK
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | nil-list
        1 | WATCH a      | OK
        2 | FLUSHALL     | OK
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | nil-list
        "#,
    );
}

#[test]
fn other_changes_do_not_abort_the_transaction() {
    same(
        r#"
        1 | MSET a 1 b 1 | OK
        1 | WATCH a      | OK
        2 | SET b 2      | OK
        2 | SET a 2 NX   | nil
        2 | GET a        | "1"
        2 | EXPIRE a 9 XX | :0
        2 | DEL nobody   | :0
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | ["1"]
        1 | WATCH a      | OK
        1 | UNWATCH      | OK
        2 | SET a 2      | OK
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | ["2"]
        1 | WATCH a      | OK
        1 | MULTI        | OK
        1 | DISCARD      | OK
        2 | SET a 3      | OK
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | ["3"]
        1 | WATCH a      | OK
        2 | SET a 4      | OK
        1 | WATCH a      | OK
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | EXEC         | nil-list
        1 | WATCH a      | OK
        2 | SET a 5      | OK
        1 | RESET        | RESET
        1 | MULTI        | OK
        1 | GET a        | QUEUED
        1 | RESET        | RESET
        1 | EXEC         | -ERR EXEC without MULTI
        "#,
    );
}

#[test]
fn random_transactions_get_the_same_replies_as_from_redis() {
    if !Redis::is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Redis::start(directory.path());
    let test = Test::start(PATIENT);
    let seed = std::env::var("KV_SEED").ok().map_or(1, |seed| seed.parse().expect("a seed"));
    let mut random = Random::new(seed);
    let mut redis: Vec<_> = (0..4).map(|_| server.client()).collect();
    let mut kv: Vec<_> = (0..3).map(|_| test.client()).collect();
    // The first two use version 3 of the protocol, the third uses version 2.
    for number in 0..2 {
        assert!(redis[number].ask("HELLO 3").starts_with('{'));
        assert!(kv[number].ask("HELLO 3").starts_with('{'));
    }
    let mut history = Vec::new();
    for _ in 0..20_000 {
        let client = random.index(3);
        let key = format!("key:{}", random.below(4));
        let verb = random.pick(&[
            "MULTI", "MULTI", "EXEC", "EXEC", "WATCH", "WATCH", "UNWATCH", "DISCARD", "GET", "SET",
            "SET", "INCR", "APPEND", "DEL", "GETSET", "EXISTS", "PERSIST", "MSETNX", "TOUCH",
            "SETRANGE", "GETRANGE", "GET a b", "NOSUCH", "FLUSHDB", "SETNX", "STRLEN", "DBSIZE",
        ]);
        let number = (random.below(9) as i64 - 4).to_string();
        let line = match verb {
            "MULTI" | "EXEC" | "UNWATCH" | "DISCARD" | "GET a b" | "NOSUCH" | "DBSIZE" => {
                verb.to_string()
            }
            // A key that was absent and is absent again counts as unchanged in kv, and as changed
            // in Redis.
            "WATCH" if redis[3].ask(&format!("EXISTS {key}")) == ":0" => "PING".into(),
            "FLUSHDB" if random.below(10) > 0 => "PING".into(),
            "FLUSHDB" => verb.into(),
            "SET" | "APPEND" | "GETSET" | "SETNX" => format!("{verb} {key} {number}"),
            "SETRANGE" => format!("{verb} {key} {number} {}", random.below(100)),
            "GETRANGE" => format!("{verb} {key} {number} {}", random.below(9) as i64 - 4),
            "MSETNX" => format!("{verb} {key} 1 key:{} 2", random.below(4)),
            _ => format!("{verb} {key}"),
        };
        let (ours, theirs) = (kv[client].ask(&line), redis[client].ask(&line));
        history.push(format!("{client} | {line} | {theirs}"));
        let last = history.len().saturating_sub(60);
        assert_eq!(ours, theirs, "KV_SEED={seed}, after\n{}", history[last..].join("\n"));
    }
}
