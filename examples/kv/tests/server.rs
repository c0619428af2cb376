//! The server over TCP, with a fake backend that tests can make slow, overloaded or silent.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use kv::command::Output;
use kv::limits::{IN_FLIGHT_MAX, REQUEST_BYTES_MAX};
use kv::resp::Reply;

mod common;
use common::{Test, TestClient, request, text, until};

const PATIENT: Duration = Duration::from_secs(30);
const IMPATIENT: Duration = Duration::from_millis(200);

#[test]
fn server_commands_are_answered() {
    let test = Test::start(PATIENT);
    let mut client = test.client();
    for (request, reply) in [
        ("PING", "PONG"),
        ("ping hello", "\"hello\""),
        ("ECHO hello", "\"hello\""),
        ("SELECT 0", "OK"),
        ("SELECT 1", "-ERR DB index is out of range"),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        (
            "AUTH x",
            "-ERR AUTH <password> called without any password configured for the default \
         user. Are you sure your configuration is correct?",
        ),
        ("CLIENT GETNAME", "nil"),
        ("CLIENT SETNAME me", "OK"),
        ("CLIENT GETNAME", "\"me\""),
        ("CLIENT SETINFO LIB-NAME x", "OK"),
        ("CLIENT ID", ":1"),
        ("CLIENT KILL", "-ERR unknown subcommand 'KILL'. Try CLIENT HELP."),
        ("CONFIG GET save", "[\"save\" \"\"]"),
        ("CONFIG GET append*", "[\"appendonly\" \"no\"]"),
        ("CONFIG GET maxmemory", "[\"maxmemory\" \"0\"]"),
        (
            "CONFIG GET notify* maxmemory-p*",
            "[\"maxmemory-policy\" \"noeviction\" \
         \"notify-keyspace-events\" \"KEg$x\"]",
        ),
        ("CONFIG GET hash*", "[]"),
        (
            "CONFIG SET save x",
            "-ERR CONFIG SET failed (possibly related to argument 'save') - can't set immutable \
             config",
        ),
        ("CONFIG SET hz 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'hz'"),
        ("CONFIG REWRITE", "-ERR unknown subcommand 'REWRITE'. Try CONFIG HELP."),
        ("COMMAND COUNT", ":77"),
        ("COMMAND INFO get nope", "[[\"get\" :2 [readonly] :1 :1 :1] nil-list]"),
        ("LPUSH a b c", "-ERR unknown command 'LPUSH', with args beginning with: 'a' 'b' 'c' "),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("SET a 1", "OK"),
        ("GET a", "\"1\""),
        ("QUIT", "OK"),
    ] {
        assert_eq!(client.ask(request), reply, "{request}");
    }
    assert_eq!(client.reply().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let hello = test.client().ask("HELLO 2 SETNAME you");
    assert!(hello.contains("\"proto\" :2"), "{hello}");
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let test = Test::start(PATIENT);
    let mut client = test.client();
    let count = IN_FLIGHT_MAX * 5;
    let mut bytes = b"PING\r\n".to_vec();
    for number in 0..count {
        let number = number.to_string();
        bytes.extend(request(&["SET", "key", &number]));
        bytes.extend(request(&["ECHO", &number]));
        bytes.extend(request(&["GET", "key"]));
    }
    client.send(&bytes).unwrap();
    assert_eq!(text(&client.reply().unwrap()), "PONG");
    for number in 0..count {
        assert_eq!(text(&client.reply().unwrap()), "OK");
        assert_eq!(text(&client.reply().unwrap()), format!("\"{number}\""));
        assert_eq!(text(&client.reply().unwrap()), format!("\"{number}\""));
    }
}

#[test]
fn a_client_that_shuts_down_its_output_receives_its_replies() {
    let test = Test::start(PATIENT);
    let mut client = test.client();
    client.send(&[request(&["SET", "a", "1"]), request(&["GET", "a"])].concat()).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(text(&client.reply().unwrap()), "OK");
    assert_eq!(text(&client.reply().unwrap()), "\"1\"");
    assert_eq!(client.reply().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_protocol_error_closes_only_its_own_connection() {
    let test = Test::start(PATIENT);
    let mut other = test.client();
    other.ask("SET a 1");
    let long = format!("*2\r\n$3\r\nGET\r\n${REQUEST_BYTES_MAX}\r\n");
    for (bytes, mistake) in [
        ("*1\r\n*1\r\n", "expected '$', got '*'"),
        ("*x\r\n", "invalid multibulk length"),
        ("*1\r\n$-5\r\n", "invalid bulk length"),
        ("get \"a\r\n", "unbalanced quotes in request"),
        (long.as_str(), "request of more than 2097152 bytes"),
    ] {
        let mut client = test.client();
        client.send(&request(&["GET", "a"])).unwrap();
        client.send(bytes.as_bytes()).unwrap();
        assert_eq!(text(&client.reply().unwrap()), "\"1\"", "{mistake}");
        let reply = text(&client.reply().unwrap());
        assert_eq!(reply, format!("-ERR Protocol error: {mistake}"));
        assert!(client.reply().is_err(), "{mistake}");
        assert_eq!(other.ask("GET a"), "\"1\"");
    }
}

#[test]
fn a_command_that_is_too_large_for_the_group_is_rejected() {
    let test = Test::start(PATIENT);
    let mut client = test.client();
    let reply = client.call(&["SET", "a", &"x".repeat(1_000_000)]).unwrap();
    assert!(text(&reply).starts_with("-ERR string exceeds maximum allowed size"), "{reply:?}");
    assert_eq!(client.ask("GET a"), "nil");
    assert_eq!(text(&client.call(&["SET", "a", &"x".repeat(999_000)]).unwrap()), "OK");
}

#[test]
fn a_timeout_reports_whether_the_command_may_take_effect() {
    let test = Test::start(IMPATIENT);
    test.fake.0.silent.store(true, Ordering::SeqCst);
    let mut client = test.client();
    let waiting = "no answer within 0.2 s: waiting for a majority of 1 2 3: have 3";
    assert_eq!(client.ask("GET a"), format!("-CLUSTERDOWN {waiting}"));
    assert_eq!(
        client.ask("SET a 1"),
        format!("-UNKNOWN outcome: {waiting}; the command may still take effect")
    );
    let info = client.ask("INFO");
    assert!(info.contains("obstacle:waiting for a majority of 1 2 3: have 3"), "{info}");
    assert!(info.contains("# Keyspace\\r\\nunknown:waiting for a majority"), "{info}");
    test.fake.0.silent.store(false, Ordering::SeqCst);
    assert_eq!(client.ask("GET a"), "\"1\"");
}

#[test]
fn proposals_to_an_overloaded_replica_are_retried_until_the_timeout() {
    let test = Test::start(IMPATIENT);
    test.fake.0.full.store(true, Ordering::SeqCst);
    let mut client = test.client();
    assert_eq!(
        client.ask("SET a 1"),
        "-CLUSTERDOWN no answer within 0.2 s: waiting for a majority of 1 2 3: have 3; the command \
         has not taken effect"
    );
    assert_eq!(client.ask("PING"), "PONG");
    let test = Test::start(PATIENT);
    test.fake.0.full.store(true, Ordering::SeqCst);
    let mut client = test.client();
    client.send(&request(&["SET", "a", "1"])).unwrap();
    test.fake.0.full.store(false, Ordering::SeqCst);
    assert_eq!(text(&client.reply().unwrap()), "OK");
}

#[test]
fn a_rejected_proposal_is_not_an_unknown_outcome() {
    let test = Test::start(PATIENT);
    test.fake.0.failed.store(true, Ordering::SeqCst);
    let reply = test.client().ask("SET a 1");
    assert_eq!(reply, "-CLUSTERDOWN the replica has stopped: for the test");
}

#[test]
fn requests_in_flight_are_limited_per_connection() {
    let test = Test::start(PATIENT);
    test.fake.0.silent.store(true, Ordering::SeqCst);
    let mut client = test.client();
    let more = IN_FLIGHT_MAX * 3;
    client.send(&request(&["INCR", "n"]).repeat(more)).unwrap();
    let proposed = || test.fake.0.proposed.load(Ordering::SeqCst);
    until("proposals up to the limit", || (proposed() >= IN_FLIGHT_MAX).then_some(()));
    // Two more may be in progress: one being written, one being queued.
    let bound = Instant::now() + Duration::from_millis(200);
    while Instant::now() < bound {
        assert!(proposed() <= IN_FLIGHT_MAX + 2);
        std::thread::yield_now();
    }
    test.fake.0.silent.store(false, Ordering::SeqCst);
    for sender in test.fake.0.unanswered.lock().unwrap().drain(..) {
        sender.send(Ok(Output::Integer(0))).unwrap();
    }
    for _ in 0..more {
        assert!(matches!(client.reply().unwrap(), Reply::Integer(_)));
    }
    assert_eq!(client.ask("GET n"), format!("\"{more}\""));
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_others() {
    let test = Test::start(PATIENT);
    let value = "x".repeat(900_000);
    let mut other = test.client();
    assert_eq!(text(&other.call(&["SET", "big", &value]).unwrap()), "OK");
    let mut lazy = test.client();
    lazy.send(&request(&["GET", "big"]).repeat(500)).unwrap();
    for _ in 0..100 {
        assert_eq!(other.ask("STRLEN big"), ":900000");
    }
    let reply = lazy.reply().unwrap();
    assert_eq!(reply, Reply::BulkString(Bytes::from(value)));
}

#[test]
fn an_orderly_stop_answers_the_requests_read_before() {
    let test = Test::start(PATIENT);
    test.fake.0.silent.store(true, Ordering::SeqCst);
    let address = test.address();
    let mut client = test.client();
    client.send(&request(&["SET", "a", "1"])).unwrap();
    let proposed = || test.fake.0.proposed.load(Ordering::SeqCst);
    until("the proposal", || (proposed() == 1).then_some(()));
    let Test { runtime, server, fake } = test;
    let stopped = runtime.spawn(server.stop(PATIENT));
    until("a closed port", || TestClient::connect(address).err());
    for sender in fake.0.unanswered.lock().unwrap().drain(..) {
        sender.send(Ok(Output::Done)).unwrap();
    }
    assert_eq!(text(&client.reply().unwrap()), "OK");
    assert!(client.reply().is_err());
    runtime.block_on(stopped).unwrap();
}

#[test]
fn a_stop_does_not_wait_for_an_outcome_that_never_arrives() {
    let test = Test::start(PATIENT);
    test.fake.0.silent.store(true, Ordering::SeqCst);
    let mut client = test.client();
    client.send(&request(&["SET", "a", "1"])).unwrap();
    let proposed = || test.fake.0.proposed.load(Ordering::SeqCst);
    until("the proposal", || (proposed() == 1).then_some(()));
    let before = Instant::now();
    test.runtime.block_on(test.server.stop(IMPATIENT));
    assert!(before.elapsed() < Duration::from_secs(5));
    assert!(client.reply().is_err());
}

/// Returns the fields of `INFO` by name.
fn info(client: &mut TestClient) -> std::collections::BTreeMap<String, String> {
    let reply = client.call(&["INFO"]).unwrap();
    let Reply::BulkString(text) = reply else { panic!("{reply:?}") };
    let text = String::from_utf8(text.to_vec()).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn info_has_the_fields_that_redis_monitors_read() {
    let test = Test::start(PATIENT);
    let mut client = test.client();
    let before = info(&mut client);
    for request in ["SET a 1", "GET a", "GET a", "GET b", "MGET a b c"] {
        client.ask(request);
    }
    drop(test.client());
    let after = info(&mut client);
    let number = |fields: &std::collections::BTreeMap<String, String>, name: &str| {
        fields[name].parse::<i64>().unwrap_or_else(|_| panic!("{name}: {}", fields[name]))
    };
    let more = |name| number(&after, name) - number(&before, name);
    // The first INFO is counted only after it was answered.
    assert_eq!(more("total_commands_processed"), 6);
    assert_eq!((more("keyspace_hits"), more("keyspace_misses")), (3, 3));
    assert!(more("total_net_input_bytes") > 50 && more("total_net_output_bytes") > 500);
    until("a second client that was counted", || {
        (number(&info(&mut client), "total_connections_received") == 2).then_some(())
    });
    assert_eq!(after["run_id"].len(), 40);
    assert_eq!(after["run_id"], before["run_id"]);
    assert!(number(&after, "used_memory_rss") > 1 << 20, "{after:?}");
    assert!(number(&after, "used_memory_peak") >= number(&after, "used_memory"));
    // Everything that `redis-cli --stat` and common exporters read.
    for name in [
        "aof_rewrite_in_progress",
        "blocked_clients",
        "connected_clients",
        "connected_slaves",
        "evicted_keys",
        "expired_keys",
        "instantaneous_ops_per_sec",
        "loading",
        "master_repl_offset",
        "maxclients",
        "maxmemory",
        "process_id",
        "pubsub_channels",
        "pubsub_patterns",
        "rdb_bgsave_in_progress",
        "rejected_connections",
        "uptime_in_seconds",
        "used_memory",
    ] {
        number(&after, name);
    }
    assert_eq!(after["db0"], "keys=1,expires=0,avg_ttl=0");
}

#[test]
fn a_replica_that_can_commit_is_a_master() {
    let test = Test::start(IMPATIENT);
    let mut client = test.client();
    let role = |client: &mut TestClient| {
        let fields = info(client);
        (fields["role"].clone(), fields["plainsong_role"].clone())
    };
    assert_eq!(role(&mut client), ("master".into(), "voter".into()));
    assert!(client.ask("ROLE").starts_with("[\"master\" "));
    // The replica is waiting for a majority.
    test.fake.0.full.store(true, Ordering::SeqCst);
    assert_eq!(role(&mut client), ("slave".into(), "voter".into()));
    assert_eq!(info(&mut client)["master_link_status"], "down");
    assert!(client.ask("ROLE").starts_with("[\"slave\" "));
}
