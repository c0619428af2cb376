//! Protocol versions, suppressed replies, and the list of clients.

use super::{PATIENT, ours, same};
use crate::common::{Test, until};

#[test]
fn protocol_version_3_has_additional_types() {
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
fn replies_are_suppressed_on_request() {
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
fn client_list_shows_all_clients() {
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
    // Redis 7.0 does not support these yet.
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
    until("a shorter list", || (one.ask("CLIENT LIST").matches("\\n").count() == 1).then_some(()));
}
