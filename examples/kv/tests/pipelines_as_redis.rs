//! Sends random pipelines of reads and writes to a real `redis-server` and to a group of three
//! replicas. The replies must be the same. Each client has its own keys, so that its replies depend
//! on its own commands only. `KV_SEED=N` repeats a run, except for the timing.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

mod common;
use common::{
    BOUND, Random, Redis, Serve, TestClient, certificate, have, ready, request, text, tls, until,
};

/// Number of pipelines per client.
const PIPELINES: usize = 60;
const COMMANDS_MAX: usize = 120;

/// A connection over TCP, TLS or a Unix socket.
type AnyClient = TestClient<Box<dyn ReadWrite + Send>>;

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

fn any(stream: impl Read + Write + Send + 'static) -> AnyClient {
    TestClient::over(Box::new(stream))
}

/// Returns the next command, or the commands of a transaction, on keys with this prefix.
fn commands(random: &mut Random, prefix: &str) -> Vec<Vec<String>> {
    let key = |random: &mut Random| format!("{prefix}:{}", random.below(4));
    let simple = |random: &mut Random| {
        let verb = random.pick(&[
            "GET", "GET", "GET", "GET", "MGET", "EXISTS", "STRLEN", "GETRANGE", "TTL", "TYPE",
            "SET", "SET", "SETNX", "INCR", "INCRBY", "APPEND", "DEL", "GETDEL", "GETSET",
            "SETRANGE", "EXPIRE", "PERSIST", "MSET", "TOUCH",
        ]);
        let mut words = vec![verb.to_string(), key(random)];
        let more: &[&str] = match verb {
            "MGET" | "EXISTS" | "DEL" | "TOUCH" => &[],
            "GETRANGE" => &["0", "2"],
            "SET" | "SETNX" | "GETSET" | "MSET" => &["5"],
            "INCRBY" => &["10"],
            "APPEND" => &["1"],
            "SETRANGE" => &["1", "7"],
            "EXPIRE" => &["100000"],
            _ => &[],
        };
        words.extend(more.iter().map(ToString::to_string));
        if matches!(verb, "MGET" | "EXISTS" | "DEL") {
            words.push(key(random));
        }
        words
    };
    let line = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
    if random.below(12) > 0 {
        return vec![simple(random)];
    }
    let mut all = Vec::new();
    if random.below(2) == 0 {
        all.push(vec!["WATCH".into(), key(random)]);
        // If a watched absent key is set and deleted again, kv treats it as unchanged and Redis as
        // changed. So nothing is deleted in between.
        let between = (0..random.below(3)).map(|_| simple(random));
        all.extend(between.filter(|words| !words[0].ends_with("DEL")));
    }
    all.push(line("MULTI"));
    (0..random.below(4)).for_each(|_| all.push(simple(random)));
    all.push(line(random.pick(&["EXEC", "EXEC", "EXEC", "DISCARD"])));
    all
}

/// Sends the same pipelines to both. Only kv also gets `READONLY` and `READWRITE` in between.
fn compare(mut ours: AnyClient, mut theirs: TestClient<UnixStream>, prefix: &str, seed: u64) {
    let mut random = Random::new(seed);
    for number in 0..PIPELINES {
        let mut pipeline = Vec::new();
        let length = 1 + random.index(COMMANDS_MAX);
        while pipeline.len() < length {
            pipeline.extend(commands(&mut random, prefix));
        }
        let (mut to_ours, mut to_theirs) = (Vec::new(), Vec::new());
        // Marks the replies to `READONLY` and `READWRITE`.
        let mut modes = Vec::new();
        let mut in_transaction = false;
        for words in &pipeline {
            if !in_transaction && random.below(10) == 0 {
                to_ours.extend(request(&[random.pick(&["READONLY", "READWRITE"])]));
                modes.push(true);
            }
            in_transaction = words[0] == "MULTI" || in_transaction && words[0] != "EXEC";
            in_transaction &= words[0] != "DISCARD";
            to_ours.extend(request(words));
            to_theirs.extend(request(words));
            modes.push(false);
        }
        ours.send(&to_ours).unwrap();
        theirs.send(&to_theirs).unwrap();
        let mut sent = pipeline.iter();
        let mut history = Vec::new();
        for is_mode in modes {
            let mine = text(&ours.reply().unwrap());
            if is_mode {
                assert_eq!(mine, "OK");
                continue;
            }
            let (words, redis) = (sent.next().unwrap(), text(&theirs.reply().unwrap()));
            history.push(format!("{} -> {redis}", words.join(" ")));
            let last = &history[history.len().saturating_sub(20)..];
            let same = mine == redis || words[0] == "TTL" && mine.starts_with(":99");
            assert!(
                same,
                "client {prefix}, KV_SEED={seed}, pipeline {number}: kv replies {mine}, after\n{}",
                last.join("\n")
            );
        }
    }
}

struct Group {
    serves: Vec<Serve>,
    cert: PathBuf,
    sockets: Vec<PathBuf>,
}

impl Group {
    /// Starts three replicas, the second of them with TLS. Each has a Unix socket as well.
    fn start(directory: &Path) -> Self {
        let (cert, key) = certificate(directory, "server");
        let sockets: Vec<PathBuf> =
            (1..=3).map(|id| directory.join(format!("{id}.sock"))).collect();
        let serve = |id: u32| {
            let socket = sockets[id as usize - 1].display().to_string();
            let mut more = vec!["--socket".to_string(), socket];
            if id == 2 {
                more.extend(["--tls-cert".into(), cert.display().to_string()]);
                more.extend(["--tls-key".into(), key.display().to_string()]);
            }
            Serve::start(id, &directory.join("ring"), &more)
        };
        let serves: Vec<Serve> = (1..=3).map(serve).collect();
        for serve in serves.iter().filter(|serve| serve.id != 2) {
            ready(serve.address);
        }
        until("a replica that commits", || {
            let mut client = TestClient::over(UnixStream::connect(&sockets[1]).ok()?);
            client.ask("DBSIZE").starts_with(':').then_some(())
        });
        Self { serves, cert, sockets }
    }

    /// Connects clients of each kind to each replica.
    fn clients(&self) -> Vec<AnyClient> {
        let mut clients = Vec::new();
        for (serve, socket) in self.serves.iter().zip(&self.sockets) {
            let stream = UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(BOUND)).unwrap();
            clients.push(any(stream));
            clients.push(match serve.id {
                2 => any(tls(serve.address, &self.cert, None).into_stream()),
                _ => any(serve.client().into_stream()),
            });
        }
        clients
    }
}

#[test]
fn random_pipelines_get_the_same_replies_as_from_redis() {
    if !Redis::is_there() || !have("openssl", "openssl") {
        return;
    }
    let seed = std::env::var("KV_SEED").ok().map_or(1, |seed| seed.parse().expect("a seed"));
    let directory = tempfile::tempdir().unwrap();
    let redis = Redis::start(directory.path());
    let group = Group::start(directory.path());
    thread::scope(|scope| {
        for (number, ours) in group.clients().into_iter().enumerate() {
            let theirs = redis.client();
            scope.spawn(move || compare(ours, theirs, &number.to_string(), seed + number as u64));
        }
    });
}
