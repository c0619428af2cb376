//! Messages, and changes of keys that clients subscribe to.

use super::same;

#[test]
fn a_version_3_subscriber_may_send_any_command() {
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
fn subscribers_receive_changes_of_keys() {
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
fn published_messages_reach_subscribers() {
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
fn a_version_2_subscriber_may_send_few_commands() {
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
