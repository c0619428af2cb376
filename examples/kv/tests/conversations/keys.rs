//! Commands on keys that no other test covers.

use super::{ours, same};

#[test]
fn ifeq_and_ifne_compare_the_current_value() {
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
fn floating_point_sums_equal_those_of_redis() {
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
fn properties_of_keys_are_reported_as_by_redis() {
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
