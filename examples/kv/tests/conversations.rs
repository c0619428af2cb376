//! What clients say to the server and are answered: transactions, watched keys, changes that
//! are told. Where there is a real `redis-server`, it is told the same and must say the same.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::time::Duration;

mod common;
use common::{Random, Redis, Test, TestClient, text};

const PATIENT: Duration = Duration::from_secs(30);

/// Plays lines of `client | request | reply`, for up to three clients. A request `...` is none:
/// the client is told something that it did not ask for. A request `!REQUEST` has no reply. A
/// reply `~` is looked at by nobody.
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

/// The same conversation with our server and with Redis.
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

/// Of what Redis 7.0 does not know yet.
#[track_caller]
fn ours(script: &str) {
    let test = Test::start(PATIENT);
    play("we", script, || test.client());
}

#[test]
fn a_transaction_is_answered_as_a_whole() {
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
fn a_command_that_fails_in_a_transaction_fails_alone() {
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
fn words_of_transactions_in_the_wrong_place_are_refused() {
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
fn a_watched_key_that_changed_stops_the_transaction() {
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
fn what_changes_no_watched_key_stops_nothing() {
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
fn random_transactions_of_three_clients_are_answered_as_redis_answers_them() {
    if !Redis::is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Redis::start(directory.path());
    let test = Test::start(PATIENT);
    let seed = std::env::var("KV_SEED").ok().map_or(1, |seed| seed.parse().expect("a seed"));
    let mut random = Random(seed);
    let mut redis: Vec<_> = (0..4).map(|_| server.client()).collect();
    let mut kv: Vec<_> = (0..3).map(|_| test.client()).collect();
    // The first two speak version 3 of the protocol, the third speaks version 2.
    for number in 0..2 {
        assert!(redis[number].ask("HELLO 3").starts_with('{'));
        assert!(kv[number].ask("HELLO 3").starts_with('{'));
    }
    let mut told = Vec::new();
    for _ in 0..20_000 {
        let client = random.below(3);
        let key = format!("key:{}", random.below(4));
        let verb = random.one_of(&[
            "MULTI", "MULTI", "EXEC", "EXEC", "WATCH", "WATCH", "UNWATCH", "DISCARD", "GET", "SET",
            "SET", "INCR", "APPEND", "DEL", "GETSET", "EXISTS", "PERSIST", "MSETNX", "TOUCH",
            "SETRANGE", "GETRANGE", "GET a b", "NOSUCH", "FLUSHDB", "SETNX", "STRLEN", "DBSIZE",
        ]);
        let number = (random.below(9) as i64 - 4).to_string();
        let line = match verb {
            "MULTI" | "EXEC" | "UNWATCH" | "DISCARD" | "GET a b" | "NOSUCH" | "DBSIZE" => {
                verb.to_string()
            }
            // A key that was absent, and is so again, has not changed for us, but for Redis.
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
        told.push(format!("{client} | {line} | {theirs}"));
        let last = told.len().saturating_sub(60);
        assert_eq!(ours, theirs, "KV_SEED={seed}, after\n{}", told[last..].join("\n"));
    }
}

#[test]
fn version_3_of_the_protocol_has_types_of_its_own() {
    same(
        r#"
        1 | HELLO x              | -ERR Protocol version is not an integer or out of range
        1 | HELLO 1              | -NOPROTO unsupported protocol version
        1 | HELLO 4              | -NOPROTO unsupported protocol version
        1 | HELLO 3 SETNAME      | -ERR Syntax error in HELLO option 'SETNAME'
        1 | HELLO 3 AUTH default | -ERR Syntax error in HELLO option 'AUTH'
        1 | HELLO 3 nope         | -ERR Syntax error in HELLO option 'nope'
        1 | GET a                | nil
        1 | CONFIG GET maxmemory | ["maxmemory" "0"]
        1 | HELLO 3 SETNAME me   | ~
        1 | CLIENT GETNAME       | "me"
        1 | CONFIG GET maxmemory | {"maxmemory" "0"}
        1 | CONFIG GET nothing   | {}
        1 | GET a                | nil
        1 | MGET a b             | [nil nil]
        1 | SET a 1 GET          | nil
        1 | WATCH a              | OK
        2 | SET a 2              | OK
        1 | MULTI                | OK
        1 | GET x                | QUEUED
        1 | EXEC                 | nil
        1 | MULTI                | OK
        1 | GET x                | QUEUED
        1 | MGET a x             | QUEUED
        1 | SCAN 0               | QUEUED
        1 | EXEC                 | [nil ["2" nil] ["0" ["a"]]]
        1 | INCR x y             | -ERR wrong number of arguments for 'incr' command
        1 | HELLO 2              | ~
        1 | CONFIG GET maxmemory | ["maxmemory" "0"]
        1 | HELLO 3              | ~
        1 | RESET                | RESET
        1 | CLIENT GETNAME       | nil
        1 | CONFIG GET maxmemory | ["maxmemory" "0"]
        "#,
    );
}

#[test]
fn a_client_of_version_3_listens_and_does_anything_else() {
    same(
        r#"
        1 | HELLO 3              | ~
        1 | UNSUBSCRIBE          | >["unsubscribe" nil :0]
        1 | SUBSCRIBE a __keyspace@0__:k | >["subscribe" "a" :1]
        1 | ...                  | >["subscribe" "__keyspace@0__:k" :2]
        1 | PSUBSCRIBE __keyevent@0__:del | >["psubscribe" "__keyevent@0__:del" :3]
        1 | PING                 | PONG
        1 | PING x               | "x"
        1 | GET k                | nil
        2 | SET k 1              | OK
        1 | ...                  | >["message" "__keyspace@0__:k" "set"]
        2 | DEL k                | :1
        1 | ...                  | >["message" "__keyspace@0__:k" "del"]
        1 | ...                  | >["pmessage" "__keyevent@0__:del" "__keyevent@0__:del" "k"]
        1 | PUNSUBSCRIBE         | >["punsubscribe" "__keyevent@0__:del" :2]
        1 | UNSUBSCRIBE a        | >["unsubscribe" "a" :1]
        1 | HELLO 2              | ~
        1 | GET k                | -ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
        1 | CONFIG GET save      | -ERR Can't execute 'config|get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
        1 | PING                 | ["pong" ""]
        "#,
    );
}

#[test]
fn replies_are_left_out_on_request() {
    same(
        r#"
        1 | CLIENT REPLY nope    | -ERR syntax error
        1 | CLIENT REPLY         | -ERR wrong number of arguments for 'client|reply' command
        1 | CLIENT REPLY ON      | OK
        1 | !CLIENT REPLY SKIP   | ~
        1 | !SET a 1             | ~
        1 | GET a                | "1"
        1 | !CLIENT REPLY OFF    | ~
        1 | !INCR a              | ~
        1 | !NOSUCH              | ~
        1 | !CLIENT REPLY SKIP   | ~
        1 | !INCR a              | ~
        1 | SUBSCRIBE __keyspace@0__:b | ["subscribe" "__keyspace@0__:b" :1]
        2 | SET b 1              | OK
        1 | ...                  | ["message" "__keyspace@0__:b" "set"]
        1 | UNSUBSCRIBE          | ["unsubscribe" "__keyspace@0__:b" :0]
        1 | CLIENT REPLY ON      | OK
        1 | GET a                | "3"
        1 | !CLIENT REPLY OFF    | ~
        1 | RESET                | RESET
        1 | GET a                | "3"
        "#,
    );
}

#[test]
fn clients_are_listed() {
    same(
        r#"
        1 | CLIENT GETNAME       | nil
        1 | CLIENT SETNAME a/b   | OK
        1 | CLIENT GETNAME       | "a/b"
        1 | CLIENT LIST TYPE x   | -ERR Unknown client type 'x'
        1 | CLIENT LIST ID x     | -ERR Invalid client ID
        1 | CLIENT LIST ID       | -ERR syntax error
        1 | CLIENT LIST x        | -ERR syntax error
        1 | CLIENT LIST ID 77777 | ""
        1 | CLIENT LIST TYPE master | ""
        1 | CLIENT INFO x        | -ERR wrong number of arguments for 'client|info' command
        1 | CLIENT NO-EVICT ON   | OK
        1 | CLIENT NO-EVICT off  | OK
        1 | CLIENT NO-EVICT x    | -ERR syntax error
        1 | CLIENT NO-EVICT      | -ERR wrong number of arguments for 'client|no-evict' command
        1 | CLIENT NOPE          | -ERR unknown subcommand 'NOPE'. Try CLIENT HELP.
        "#,
    );
    // Redis 7.0 does not know these yet.
    ours(
        r#"
        1 | CLIENT NO-TOUCH ON   | OK
        1 | CLIENT NO-TOUCH x    | -ERR syntax error
        1 | CLIENT SETINFO LIB-NAME x | OK
        1 | CLIENT SETINFO lib-ver 1 | OK
        1 | CLIENT SETINFO x 1   | -ERR Unrecognized option 'x'
        1 | CLIENT SETINFO LIB-NAME | -ERR wrong number of arguments for 'client|setinfo' command
        "#,
    );
    let test = Test::start(PATIENT);
    let (mut one, mut other) = (test.client(), test.client());
    one.ask("CLIENT SETNAME one");
    one.ask("CLIENT SETINFO LIB-NAME lib");
    other.ask("HELLO 3 SETNAME other");
    other.ask("SUBSCRIBE a b");
    other.reply().unwrap();
    let address = one.stream().local_addr().unwrap();
    let info = one.ask("CLIENT INFO");
    for part in [format!("addr={address} "), "name=one ".into(), "lib-name=lib ".into()] {
        assert!(info.contains(&part), "{part} {info}");
    }
    assert!(info.contains("cmd=client|info ") && info.contains(" resp=2 "), "{info}");
    let list = one.ask("CLIENT LIST");
    assert_eq!(list.matches("\\n").count(), 2, "{list}");
    let other_line = "name=other age=0 idle=0 flags=P db=0 sub=2 psub=0 ssub=0 multi=-1 ";
    let words = |text: &str| -> Vec<String> {
        let kept = |word: &&str| !word.starts_with("age=") && !word.starts_with("idle=");
        text.split_whitespace().filter(kept).map(String::from).collect()
    };
    let listening = one.ask("CLIENT LIST TYPE pubsub");
    for word in words(other_line) {
        assert!(words(&listening).contains(&word), "{word} {listening}");
    }
    assert!(!listening.contains("name=one"), "{listening}");
    assert!(one.ask("CLIENT LIST TYPE normal").contains("name=one"));
    drop(other);
    common::until("a shorter list", || {
        (one.ask("CLIENT LIST").matches("\\n").count() == 1).then_some(())
    });
}

#[test]
fn a_key_is_set_and_deleted_if_it_has_a_value() {
    ours(
        r#"
        1 | SET a 1 IFEQ 1       | nil
        1 | EXISTS a             | :0
        1 | SET a 1 IFNE 1       | OK
        1 | SET a 2 IFEQ 1       | OK
        1 | SET a 3 IFEQ 1       | nil
        1 | SET a 3 IFEQ 1 GET   | "2"
        1 | GET a                | "2"
        1 | SET a 3 IFNE 2       | nil
        1 | SET a 3 IFEQ 2 GET EX 100 | "2"
        1 | TTL a                | :100
        1 | SET a 3 IFEQ 3 NX    | -ERR syntax error
        1 | SET a 3 XX IFEQ 3    | -ERR syntax error
        1 | SET a 3 IFEQ 3 IFNE 4 | -ERR syntax error
        1 | SET a 3 IFEQ         | -ERR syntax error
        1 | DELEX a IFEQ 4       | :0
        1 | DELEX a IFNE 3       | :0
        1 | DELEX a IFXX 3       | -ERR syntax error
        1 | DELEX a IFEQ         | -ERR syntax error
        1 | DELEX a IFEQ 3       | :1
        1 | DELEX a IFNE 3       | :0
        1 | SET a 3              | OK
        1 | DELEX a              | :1
        "#,
    );
}

#[test]
fn changes_of_keys_are_told_to_who_listens() {
    same(
        r#"
        1 | SUBSCRIBE __keyspace@0__:a __keyevent@0__:del | ["subscribe" "__keyspace@0__:a" :1]
        1 | ...                  | ["subscribe" "__keyevent@0__:del" :2]
        2 | PSUBSCRIBE __keyevent@0__:* | ["psubscribe" "__keyevent@0__:*" :1]
        3 | SET a 1              | OK
        1 | ...                  | ["message" "__keyspace@0__:a" "set"]
        2 | ...                  | ["pmessage" "__keyevent@0__:*" "__keyevent@0__:set" "a"]
        3 | SET b 1              | OK
        2 | ...                  | ["pmessage" "__keyevent@0__:*" "__keyevent@0__:set" "b"]
        3 | SET a 2 NX           | nil
        3 | GET a                | "1"
        3 | DEL a b x            | :2
        1 | ...                  | ["message" "__keyspace@0__:a" "del"]
        1 | ...                  | ["message" "__keyevent@0__:del" "a"]
        1 | ...                  | ["message" "__keyevent@0__:del" "b"]
        2 | ...                  | ["pmessage" "__keyevent@0__:*" "__keyevent@0__:del" "a"]
        2 | ...                  | ["pmessage" "__keyevent@0__:*" "__keyevent@0__:del" "b"]
        3 | INCR a               | :1
        1 | ...                  | ["message" "__keyspace@0__:a" "incrby"]
        3 | DECRBY a 3           | :-2
        1 | ...                  | ["message" "__keyspace@0__:a" "incrby"]
        3 | APPEND a x           | :3
        1 | ...                  | ["message" "__keyspace@0__:a" "append"]
        3 | SETRANGE a 0 x       | :3
        1 | ...                  | ["message" "__keyspace@0__:a" "setrange"]
        3 | EXPIRE a 100         | :1
        1 | ...                  | ["message" "__keyspace@0__:a" "expire"]
        3 | PERSIST a            | :1
        1 | ...                  | ["message" "__keyspace@0__:a" "persist"]
        3 | GETEX a EX 100       | ~
        1 | ...                  | ["message" "__keyspace@0__:a" "expire"]
        3 | GETEX a PERSIST      | ~
        1 | ...                  | ["message" "__keyspace@0__:a" "persist"]
        3 | SET a 1 EX 100       | OK
        1 | ...                  | ["message" "__keyspace@0__:a" "set"]
        1 | ...                  | ["message" "__keyspace@0__:a" "expire"]
        3 | GETDEL a             | "1"
        1 | ...                  | ["message" "__keyspace@0__:a" "del"]
        1 | ...                  | ["message" "__keyevent@0__:del" "a"]
        3 | MULTI                | OK
        3 | MSET a 1 c 1         | QUEUED
        3 | EXPIRE a -1          | QUEUED
        3 | EXEC                 | [OK :1]
        1 | ...                  | ["message" "__keyspace@0__:a" "set"]
        1 | ...                  | ["message" "__keyspace@0__:a" "del"]
        1 | ...                  | ["message" "__keyevent@0__:del" "a"]
        "#,
    );
}

#[test]
fn keys_are_renamed_and_copied() {
    same(
        r#"
        1 | SUBSCRIBE __keyspace@0__:a __keyspace@0__:b __keyspace@0__:c | ["subscribe" "__keyspace@0__:a" :1]
        1 | ...                  | ["subscribe" "__keyspace@0__:b" :2]
        1 | ...                  | ["subscribe" "__keyspace@0__:c" :3]
        2 | RENAME a b           | -ERR no such key
        2 | RENAMENX a b         | -ERR no such key
        2 | RENAME a a           | -ERR no such key
        2 | SET a 1 EX 100       | OK
        1 | ...                  | ["message" "__keyspace@0__:a" "set"]
        1 | ...                  | ["message" "__keyspace@0__:a" "expire"]
        2 | RENAME a a           | OK
        2 | RENAMENX a a         | :0
        2 | SET b 2              | OK
        1 | ...                  | ["message" "__keyspace@0__:b" "set"]
        2 | RENAMENX a b         | :0
        2 | RENAME a b           | OK
        1 | ...                  | ["message" "__keyspace@0__:a" "rename_from"]
        1 | ...                  | ["message" "__keyspace@0__:b" "rename_to"]
        2 | TTL b                | :100
        2 | EXISTS a             | :0
        2 | RENAMENX b a         | :1
        1 | ...                  | ["message" "__keyspace@0__:b" "rename_from"]
        1 | ...                  | ["message" "__keyspace@0__:a" "rename_to"]
        2 | COPY a b             | :1
        1 | ...                  | ["message" "__keyspace@0__:b" "copy_to"]
        2 | TTL b                | :100
        2 | SET c 3              | OK
        1 | ...                  | ["message" "__keyspace@0__:c" "set"]
        2 | COPY c b             | :0
        2 | COPY c b DB 0        | :0
        2 | COPY c b replace db 0 | :1
        1 | ...                  | ["message" "__keyspace@0__:b" "copy_to"]
        2 | MGET a b c           | ["1" "3" "3"]
        2 | TTL b                | :-1
        2 | COPY x b REPLACE     | :0
        2 | COPY x x             | -ERR source and destination objects are the same
        2 | COPY a b DB          | -ERR syntax error
        2 | COPY a b DB x        | -ERR value is not an integer or out of range
        2 | COPY a b DB 99       | -ERR DB index is out of range
        2 | COPY a b nope        | -ERR syntax error
        2 | COPY a               | -ERR wrong number of arguments for 'copy' command
        3 | WATCH a              | OK
        2 | RENAME a a           | OK
        3 | MULTI                | OK
        3 | RENAME a d           | QUEUED
        3 | COPY d e             | QUEUED
        3 | RENAME x y           | QUEUED
        3 | KEYSX                | -ERR unknown command 'KEYSX', with args beginning with: 
        3 | DISCARD              | OK
        3 | WATCH b              | OK
        2 | COPY c b REPLACE     | :1
        3 | MULTI                | OK
        3 | GET a                | QUEUED
        3 | EXEC                 | nil-list
        "#,
    );
}

#[test]
fn floating_point_numbers_are_added_as_redis_adds_them() {
    same(
        r#"
        1 | INCRBYFLOAT a 10.50  | "10.5"
        1 | INCRBYFLOAT a 0.1    | "10.6"
        1 | INCRBYFLOAT a -5     | "5.6"
        1 | SET a 5.0e3 EX 100   | OK
        1 | INCRBYFLOAT a 2.0e2  | "5200"
        1 | TTL a                | :100
        1 | INCR a               | :5201
        1 | INCRBYFLOAT a x      | -ERR value is not a valid float
        1 | INCRBYFLOAT a nan    | -ERR value is not a valid float
        1 | INCRBYFLOAT a 1e5000 | -ERR value is not a valid float
        1 | INCRBYFLOAT a inf    | -ERR increment would produce NaN or Infinity
        1 | SET a inf            | OK
        1 | INCRBYFLOAT a -inf   | -ERR increment would produce NaN or Infinity
        1 | SET a text           | OK
        1 | INCRBYFLOAT a 1      | -ERR value is not a valid float
        1 | INCRBYFLOAT a        | -ERR wrong number of arguments for 'incrbyfloat' command
        2 | PSUBSCRIBE __keyevent@0__:* | ["psubscribe" "__keyevent@0__:*" :1]
        1 | INCRBYFLOAT b 0x1p-3 | "0.125"
        2 | ...                  | ["pmessage" "__keyevent@0__:*" "__keyevent@0__:incrbyfloat" "b"]
        "#,
    );
}

#[test]
fn what_is_asked_about_keys_is_answered_as_redis_answers_it() {
    same(
        r#"
        1 | RANDOMKEY            | nil
        1 | KEYS *               | []
        1 | MSET a 1 b 12345 c text | OK
        1 | KEYS [a]             | ["a"]
        1 | KEYS nobody*         | []
        1 | KEYS                 | -ERR wrong number of arguments for 'keys' command
        1 | KEYS a b             | -ERR wrong number of arguments for 'keys' command
        1 | OBJECT ENCODING a    | "int"
        1 | OBJECT ENCODING c    | "embstr"
        1 | OBJECT ENCODING x    | nil
        1 | OBJECT REFCOUNT a    | :2147483647
        1 | OBJECT REFCOUNT b    | :1
        1 | OBJECT REFCOUNT c    | :1
        1 | OBJECT REFCOUNT x    | nil
        1 | OBJECT IDLETIME a    | :0
        1 | OBJECT IDLETIME x    | nil
        1 | OBJECT FREQ a        | -ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.
        1 | OBJECT FREQ x        | nil
        1 | OBJECT ENCODING      | -ERR wrong number of arguments for 'object|encoding' command
        1 | OBJECT nope a        | -ERR unknown subcommand 'nope'. Try OBJECT HELP.
        1 | OBJECT               | -ERR wrong number of arguments for 'object' command
        1 | SET c xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx | OK
        1 | OBJECT ENCODING c    | "embstr"
        1 | SET c xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx | OK
        1 | OBJECT ENCODING c    | "raw"
        1 | MEMORY USAGE x       | nil
        1 | MEMORY USAGE a SAMPLES | -ERR syntax error
        1 | MEMORY USAGE a SAMPLES x | -ERR value is not an integer or out of range
        1 | MEMORY USAGE a SAMPLES -1 | -ERR syntax error
        1 | MEMORY USAGE         | -ERR wrong number of arguments for 'memory|usage' command
        1 | MEMORY nope          | -ERR unknown subcommand 'nope'. Try MEMORY HELP.
        1 | WAIT 0 0             | :0
        1 | WAIT x 0             | -ERR value is not an integer or out of range
        1 | WAIT 0 x             | -ERR timeout is not an integer or out of range
        1 | WAIT 0 -1            | -ERR timeout is negative
        1 | DEL b c              | :2
        1 | RANDOMKEY            | "a"
        1 | MULTI                | OK
        1 | RANDOMKEY            | QUEUED
        1 | OBJECT ENCODING a    | QUEUED
        1 | MEMORY USAGE x       | QUEUED
        1 | EXEC                 | ["a" "int" nil]
        "#,
    );
    ours(
        r#"
        1 | SET a 1              | OK
        1 | MEMORY USAGE a       | :162
        1 | MULTI                | OK
        1 | KEYS *               | -ERR Command not allowed inside a transaction
        1 | DISCARD              | OK
        1 | EVAL return 0        | -ERR EVAL is not supported: a script cannot be a command of the log; compare and set with SET key value IFEQ old or DELEX key IFEQ old, or use WATCH with MULTI and EXEC
        1 | evalsha x 0          | -ERR EVALSHA is not supported: a script cannot be a command of the log; compare and set with SET key value IFEQ old or DELEX key IFEQ old, or use WATCH with MULTI and EXEC
        "#,
    );
}

#[test]
fn messages_are_published() {
    same(
        r#"
        3 | PUBLISH a hi         | :0
        1 | SUBSCRIBE a b        | ["subscribe" "a" :1]
        1 | ...                  | ["subscribe" "b" :2]
        2 | HELLO 3              | ~
        2 | PSUBSCRIBE a*        | >["psubscribe" "a*" :1]
        3 | PUBLISH a hi         | :2
        1 | ...                  | ["message" "a" "hi"]
        2 | ...                  | >["pmessage" "a*" "a" "hi"]
        3 | PUBLISH nobody hi    | :0
        3 | PUBSUB CHANNELS [ac] | ["a"]
        3 | PUBSUB CHANNELS b*   | ["b"]
        3 | PUBSUB NUMPAT        | :1
        3 | PUBSUB NUMSUB a x    | ["a" :1 "x" :0]
        3 | PUBSUB NUMSUB        | []
        3 | PUBSUB nope          | -ERR unknown subcommand 'nope'. Try PUBSUB HELP.
        3 | PUBSUB NUMPAT x      | -ERR wrong number of arguments for 'pubsub|numpat' command
        3 | FLUSHALL             | OK
        3 | MULTI                | OK
        3 | SET k 1              | QUEUED
        3 | PUBLISH b 1          | QUEUED
        3 | PUBLISH b 2          | QUEUED
        3 | GET k                | QUEUED
        3 | EXEC                 | [OK :1 :1 "1"]
        1 | ...                  | ["message" "b" "1"]
        1 | ...                  | ["message" "b" "2"]
        1 | UNSUBSCRIBE a        | ["unsubscribe" "a" :1]
        1 | RESET                | RESET
        3 | PUBSUB CHANNELS      | []
        3 | PUBLISH a            | -ERR wrong number of arguments for 'publish' command
        "#,
    );
}

#[test]
fn a_client_that_listens_does_nothing_else() {
    same(
        r#"
        1 | UNSUBSCRIBE          | ["unsubscribe" nil :0]
        1 | SUBSCRIBE a b a      | ["subscribe" "a" :1]
        1 | ...                  | ["subscribe" "b" :2]
        1 | ...                  | ["subscribe" "a" :2]
        1 | PSUBSCRIBE c*        | ["psubscribe" "c*" :3]
        1 | GET a                | -ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
        1 | PING                 | ["pong" ""]
        1 | PING x               | ["pong" "x"]
        1 | UNSUBSCRIBE b nobody | ["unsubscribe" "b" :2]
        1 | ...                  | ["unsubscribe" "nobody" :2]
        1 | PUNSUBSCRIBE         | ["punsubscribe" "c*" :1]
        1 | UNSUBSCRIBE          | ["unsubscribe" "a" :0]
        1 | GET a                | nil
        1 | SUBSCRIBE a          | ["subscribe" "a" :1]
        1 | RESET                | RESET
        1 | GET a                | nil
        "#,
    );
}
