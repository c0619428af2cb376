//! Runs the same random commands on a real `redis-server` and on the store. The replies must be the
//! same. `KV_SEED=N` repeats a run.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use kv::KvStore;
use kv::resp::Reply;

mod common;
use common::{Random, Redis, run, text};

const COMMANDS: usize = 30_000;

/// Returns an integer argument: valid, or one that parsers tend to get wrong.
fn integer(random: &mut Random) -> &'static str {
    random.pick(&[
        "0",
        "1",
        "-1",
        "7",
        "1000",
        "100000",
        "-100000",
        "9223372036854775807",
        "9223372036854775806",
        "-9223372036854775808",
        "9223372036854775808",
        "9223372036854775",
        "9223372036854776",
        "",
        "-",
        "-0",
        "+1",
        "01",
        " 1",
        "1 ",
        "1.0",
        "abc",
    ])
}

/// Returns an integer that is not a time close to now. The replies would depend on timing, and
/// Redis counts expired keys until it comes across them.
fn strange(random: &mut Random) -> String {
    loop {
        let text = integer(random);
        if !matches!(text, "1" | "7" | "1000" | "100000") {
            return text.into();
        }
    }
}

/// Returns a floating point number in one of the forms that C parses, or something similar.
fn float(random: &mut Random) -> String {
    let digits = |random: &mut Random, base: usize| -> String {
        let bound = if random.below(4) == 0 { 40 } else { 12 };
        let count = random.below(bound);
        let digit = |_| char::from_digit(random.index(base) as u32, base as u32).unwrap();
        (0..count).map(digit).collect()
    };
    let sign = random.pick(&["", "", "-", "+"]);
    let (prefix, base, mark) = match random.below(8) {
        0 => ("0x", 16, "p"),
        _ => ("", 10, "e"),
    };
    let whole = digits(random, base);
    let fraction = match random.below(2) {
        0 => format!(".{}", digits(random, base)),
        _ => String::new(),
    };
    let exponent = match random.below(6) {
        0 => format!("{mark}{}", random.below(80) as i64 - 40),
        1 => format!("{mark}{}", random.below(10_200) as i64 - 5_100),
        2 if random.below(4) == 0 => mark.into(),
        _ => String::new(),
    };
    match random.below(60) {
        0 => random.pick(&["inf", "-Infinity", "nan", "", ".", "1 ", " 1", "0x", "1e+"]).into(),
        _ => format!("{sign}{prefix}{whole}{fraction}{exponent}"),
    }
}

/// Returns a lifetime that does not end while the test runs, or is invalid.
fn lifetime(random: &mut Random) -> String {
    match random.below(4) {
        0 => strange(random),
        _ => (1_000_000 + random.below(1_000_000)).to_string(),
    }
}

/// Returns a time in the far future, or an invalid one.
fn moment(random: &mut Random) -> String {
    match random.below(4) {
        0 => strange(random),
        _ => (4_000_000_000_000 + random.below(1_000_000)).to_string(),
    }
}

fn command(random: &mut Random) -> Vec<String> {
    let key = |random: &mut Random| format!("key:{}", random.below(12));
    let value = |random: &mut Random| match random.below(3) {
        0 => integer(random).to_owned(),
        1 => random.below(1000).to_string(),
        _ => "x".repeat(random.index(40)),
    };
    let verb = random.pick(&[
        "GET",
        "SET",
        "SET",
        "SET",
        "SETNX",
        "SETEX",
        "PSETEX",
        "GETSET",
        "GETDEL",
        "GETEX",
        "MGET",
        "MSET",
        "DEL",
        "UNLINK",
        "EXISTS",
        "TYPE",
        "INCR",
        "DECR",
        "INCRBY",
        "INCRBYFLOAT",
        "DECRBY",
        "RENAME",
        "RENAMENX",
        "COPY",
        "APPEND",
        "STRLEN",
        "DBSIZE",
        "TTL",
        "PTTL",
        "EXPIRETIME",
        "PEXPIRETIME",
        "EXPIRE",
        "PEXPIRE",
        "EXPIREAT",
        "PEXPIREAT",
        "PERSIST",
    ]);
    let mut words = vec![verb.to_string()];
    match verb {
        "DBSIZE" => {}
        "MGET" | "DEL" | "UNLINK" | "EXISTS" => {
            (0..=random.below(3)).for_each(|_| words.push(key(random)));
        }
        "MSET" => (0..=random.below(3)).for_each(|_| words.extend([key(random), value(random)])),
        "SETNX" | "GETSET" | "APPEND" => words.extend([key(random), value(random)]),
        "SETEX" | "PSETEX" => words.extend([key(random), lifetime(random), value(random)]),
        "INCRBY" | "DECRBY" => words.extend([key(random), integer(random).into()]),
        "INCRBYFLOAT" => words.extend([key(random), float(random)]),
        "RENAME" | "RENAMENX" | "COPY" => {
            words.extend([key(random), key(random)]);
            if verb == "COPY" && random.below(2) == 0 {
                words.push("REPLACE".into());
            }
        }
        "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" => {
            let at = verb.ends_with("AT");
            words.extend([key(random), if at { moment(random) } else { lifetime(random) }]);
            for _ in 0..random.below(3) {
                words.push(random.pick(&["NX", "XX", "GT", "LT", "lt", "ZZ"]).into());
            }
        }
        "SET" | "GETEX" => {
            words.push(key(random));
            if verb == "SET" {
                words.push(value(random));
            }
            for _ in 0..random.below(4) {
                let option = random.pick(&[
                    "NX", "XX", "GET", "KEEPTTL", "PERSIST", "EX", "PX", "EXAT", "PXAT", "px",
                ]);
                words.push(option.into());
                match option {
                    "EX" | "PX" | "px" => words.push(lifetime(random)),
                    "EXAT" | "PXAT" => words.push(moment(random)),
                    _ => {}
                }
            }
        }
        _ => words.push(key(random)),
    }
    match random.below(50) {
        0 => drop(words.pop()),
        1 => words.push(value(random)),
        _ => {}
    }
    if words.is_empty() {
        words.push(verb.to_lowercase());
    }
    words
}

/// Returns true if two replies are the same, apart from the time that passed between them.
fn same(verb: &str, ours: &Reply, theirs: &Reply) -> bool {
    match (ours, theirs) {
        (Reply::Integer(one), Reply::Integer(other)) if verb.to_lowercase().ends_with("ttl") => {
            let step = if verb.eq_ignore_ascii_case("ttl") { 1 } else { 1000 };
            one.signum() == other.signum() && one.abs_diff(*other) <= 10 * step
        }
        (Reply::Integer(one), Reply::Integer(other)) if verb.to_lowercase().ends_with("time") => {
            let step = if verb.eq_ignore_ascii_case("expiretime") { 1 } else { 1000 };
            one.signum() == other.signum() && one.abs_diff(*other) <= 10 * step
        }
        // kv checks the time before it checks whether the key exists.
        (Reply::Error(_), Reply::Null) => verb == "GETEX",
        _ => ours == theirs,
    }
}

#[test]
fn random_commands_get_the_same_replies_as_from_redis() {
    if !Redis::is_there() {
        return;
    }
    let seed = std::env::var("KV_SEED").ok().map_or(1, |seed| seed.parse().expect("a seed"));
    let directory = tempfile::tempdir().unwrap();
    let server = Redis::start(directory.path());
    let mut redis = server.client();
    let mut store = KvStore::default();
    let mut random = Random::new(seed);
    let mut history = Vec::new();
    for _ in 0..COMMANDS {
        let words = command(&mut random);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let ours = run(&mut store, now, &words);
        let theirs = redis.call(&words).unwrap();
        history.push(format!("{words:?} -> {}", text(&theirs)));
        if !same(words[0], &ours, &theirs) {
            let last = history.len().saturating_sub(20);
            panic!(
                "KV_SEED={seed}: redis replies {}, kv replies {}, after\n{}",
                text(&theirs),
                text(&ours),
                history[last..].join("\n")
            );
        }
    }
}

#[test]
fn random_floating_point_sums_equal_those_of_redis() {
    // On other processors Redis uses numbers of another size.
    if !Redis::is_there() || !cfg!(target_arch = "x86_64") {
        return;
    }
    let seed = std::env::var("KV_SEED").ok().map_or(1, |seed| seed.parse().expect("a seed"));
    let directory = tempfile::tempdir().unwrap();
    let server = Redis::start(directory.path());
    let mut redis = server.client();
    let mut store = KvStore::default();
    let mut random = Random::new(seed);
    let (mut sums, mut first) = (0, "0".to_owned());
    for _ in 0..20_000 {
        if random.below(3) > 0 {
            first = float(&mut random);
        }
        let second = match random.below(8) {
            // Nearly the negated number, so that the sum is close to zero.
            0 => format!("-{}", first.trim_start_matches(['-', '+'])),
            _ => float(&mut random),
        };
        let mut answers = [String::new(), String::new()];
        for words in [["SET", "f", &first], ["INCRBYFLOAT", "f", &second]] {
            answers = [text(&run(&mut store, 1, &words)), text(&redis.call(&words).unwrap())];
        }
        let [ours, theirs] = answers;
        assert_eq!(ours, theirs, "KV_SEED={seed}: {first:?} + {second:?}");
        sums += usize::from(ours.starts_with('"'));
        if ours.starts_with('"') {
            first = ours.trim_matches('"').into();
        }
    }
    assert!(sums > 5_000, "only {sums} were numbers");
}

#[test]
fn patterns_match_the_same_keys_as_in_redis() {
    if !Redis::is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Redis::start(directory.path());
    let mut redis = server.client();
    let mut random = Random::new(3);
    let mut keys = Vec::new();
    for _ in 0..60 {
        let parts = ["a", "b", "c", "-", "[", "]", "\\", "*", "?", "^"];
        let key: String = (0..1 + random.below(4)).map(|_| random.pick(&parts)).collect();
        redis.call(&["SET", &key, "1"]).unwrap();
        keys.push(key);
    }
    keys.sort();
    keys.dedup();
    for _ in 0..5000 {
        let parts =
            ["a", "b", "c", "*", "?", "[ab]", "[^a]", "[a-c]", "[c-a]", "\\*", "\\", "[", "]", "-"];
        let pattern: String = (0..random.below(5)).map(|_| random.pick(&parts)).collect();
        let reply = redis.call(&["SCAN", "0", "COUNT", "100000", "MATCH", &pattern]).unwrap();
        let Reply::Array(parts) = reply else { panic!("{reply:?}") };
        let [_, Reply::Array(found)] = &parts[..] else { panic!("{parts:?}") };
        let mut theirs: Vec<String> = found.iter().map(text).collect();
        theirs.sort();
        let ours = keys.iter().filter(|k| kv::glob::matches(pattern.as_bytes(), k.as_bytes()));
        let mut ours: Vec<String> =
            ours.map(|key| text(&Reply::BulkString(key.clone().into()))).collect();
        ours.sort();
        assert_eq!(ours, theirs, "{pattern:?}");
    }
}
