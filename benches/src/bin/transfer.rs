//! How long `kv` takes to bring a replica up to date, what that costs those who go on writing,
//! and how much memory it takes at both ends. Driven by `benches/transfer/run`.
//!
//! ```text
//! transfer ENGINE KV FLOOD FOLDER KEYS BYTES SECONDS_BEHIND
//! ```
//!
//! Three replicas hold `KEYS` keys with values of `BYTES` each, on disk. With `corosync` each
//! replica runs in the network namespace `nodeN`, else all on this host.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

type Result<V = ()> = std::result::Result<V, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(1800);
const LOOK: Duration = Duration::from_millis(20);
const WRITERS: usize = 16;
const CHUNK_BYTES: u64 = 61_440;

struct Bench {
    corosync: bool,
    kv: PathBuf,
    flood: PathBuf,
    folder: PathBuf,
    keys: u64,
    bytes: usize,
    behind: Duration,
}

/// A `kv serve`, killed when dropped.
struct Replica {
    id: u32,
    child: Child,
    address: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // With Corosync the child has become the replica by `exec`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bench {
    /// A command in the node of a replica.
    fn command(&self, id: u32, program: &Path) -> Command {
        if !self.corosync {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("node{id}")]).arg(program);
        command
    }

    fn engine(&self) -> String {
        if self.corosync {
            return "corosync".into();
        }
        format!("embedded:{}", self.folder.join("ring").display())
    }

    fn data(&self, id: u32) -> PathBuf {
        self.folder.join(format!("data-{id}"))
    }

    fn start(&self, id: u32) -> Result<Replica> {
        let host = if self.corosync { format!("10.77.0.{id}") } else { "127.0.0.1".into() };
        let address = format!("{host}:{}", 7000 + id);
        let mut command = self.command(id, &self.kv);
        command.args(["serve", "--id", &id.to_string(), "--listen", &address]);
        // So little of the log is kept that who lags gets the state.
        command.args(["--engine", &self.engine(), "--timeout", "60", "--keep-entries", "64"]);
        command.arg("--data");
        command.arg(self.data(id));
        if id <= 3 {
            command.args(["--voters", "1,2,3"]);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("log-{id}")))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        Ok(Replica { id, child, address })
    }

    /// Starts a replica with nothing.
    fn start_empty(&self, id: u32) -> Result<Replica> {
        let _ = fs::remove_dir_all(self.data(id));
        self.start(id)
    }

    /// Megabytes a second that the group engine itself carries, in messages like chunks.
    fn raw(&self) -> Result<f64> {
        let engine = match self.corosync {
            true => "corosync".into(),
            false => format!("embedded:{}", self.folder.join("flood").display()),
        };
        let message = CHUNK_BYTES + 200;
        let mut command = self.command(1, &self.flood);
        command.args(["3000", &message.to_string(), "8", &engine]);
        let output = command.output()?;
        let rate: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        Ok(rate * message as f64 / 1e6)
    }
}

/// A client without a pipeline of its own.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::with_capacity(1 << 16, stream)))
    }

    fn send(&mut self, bytes: &[u8]) -> Result {
        Ok(self.0.get_mut().write_all(bytes)?)
    }

    /// One reply, of a bulk string the content.
    fn reply(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err("the replica is gone".into());
        }
        let line = line.trim_end();
        let Some(length) = line.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
            return Ok(line.into());
        };
        let mut content = vec![0; length + 2];
        self.0.read_exact(&mut content)?;
        Ok(String::from_utf8(content)?)
    }

    fn info(&mut self) -> Result<Info> {
        self.send(b"INFO replication\r\n")?;
        Ok(Info(self.reply()?))
    }
}

struct Info(String);

impl Info {
    fn field(&self, name: &str) -> &str {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim()
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or(0)
    }

    /// The donor, the bytes that are here and all bytes, of a snapshot that is received.
    fn transfer(&self) -> Option<(u32, u64, u64)> {
        let (_, text) = self.field("obstacle").split_once("; replica ")?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let bytes = words.iter().position(|word| *word == "of")?;
        let here = words.get(bytes.checked_sub(1)?)?.parse().ok()?;
        Some((words.first()?.parse().ok()?, here, words.get(bytes + 1)?.parse().ok()?))
    }
}

impl Replica {
    fn info(&self) -> Result<Info> {
        Client::connect(&self.address)?.info()
    }

    /// Looks until something is so.
    fn until<V>(&self, what: &str, mut look: impl FnMut(&Info) -> Option<V>) -> Result<V> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.info().ok().as_ref().and_then(&mut look) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                return Err(format!("replica {}: no {what} in {PATIENCE:?}", self.id).into());
            }
            thread::sleep(LOOK);
        }
    }

    fn until_in_step(&self) -> Result<Info> {
        self.until("being in step", |info| {
            let follows = ["learner", "voter", "sequencer"].contains(&info.field("role"));
            let applied = info.number("applied") > 0;
            (follows && applied && info.field("obstacle").is_empty()).then(|| Info(info.0.clone()))
        })
    }

    /// Of the process, in MiB: what it has in memory now, and the most it ever had.
    fn memory(&self) -> Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
            line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
        };
        Ok((field("VmRSS:"), field("VmHWM:")))
    }

    /// The most from now on.
    fn forget_peak(&self) -> Result {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}

fn set(number: u64, value: &str) -> String {
    let key = key(number);
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len())
}

/// Incompressible enough, and another for each key.
fn value(number: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut state = number;
    while text.len() < bytes {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += &format!("{state:016x}");
    }
    text.truncate(bytes);
    text
}

/// Sets these keys, from several connections with long pipelines.
fn fill(address: &str, keys: std::ops::Range<u64>, bytes: usize) -> Result<f64> {
    let (began, count) = (Instant::now(), keys.end - keys.start);
    let next = AtomicU64::new(keys.start);
    thread::scope(|scope| {
        let fillers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> std::result::Result<(), String> {
                    let mut client = Client::connect(address).map_err(|e| e.to_string())?;
                    loop {
                        let from = next.fetch_add(200, Ordering::Relaxed);
                        if from >= keys.end {
                            return Ok(());
                        }
                        let some = from..keys.end.min(from + 200);
                        let text: String =
                            some.clone().map(|key| set(key, &value(key, bytes))).collect();
                        client.send(text.as_bytes()).map_err(|e| e.to_string())?;
                        for _ in some {
                            let reply = client.reply().map_err(|e| e.to_string())?;
                            if reply != "+OK" {
                                return Err(reply);
                            }
                        }
                    }
                })
            })
            .collect();
        fillers.into_iter().try_for_each(|filler| filler.join().map_err(|_| "a panic")?)
    })?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Clients each of which sets one key after the other, and how long every answer took.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<(Instant, Duration)>>>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: &str, keys: u64, bytes: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let writers = (0..WRITERS as u64).map(|writer| {
            let (stop, answers, address) =
                (Arc::clone(&stop), Arc::clone(&answers), address.to_owned());
            thread::spawn(move || {
                let Ok(mut client) = Client::connect(&address) else { return };
                let mut number = writer;
                while !stop.load(Ordering::Relaxed) {
                    number = (number + 7919 * WRITERS as u64) % keys;
                    let request = set(number, &value(number, bytes));
                    let asked = Instant::now();
                    if client.send(request.as_bytes()).is_err() {
                        return;
                    }
                    match client.reply() {
                        Ok(reply) if reply == "+OK" => {}
                        Ok(other) => eprintln!("{other}"),
                        Err(_) => return,
                    }
                    let mut answers = answers.lock().unwrap_or_else(|e| e.into_inner());
                    answers.push((asked, asked.elapsed()));
                }
            })
        });
        let writers = writers.collect();
        Self { stop, answers, writers }
    }

    /// What was answered between these moments.
    fn between(&self, from: Instant, to: Instant) -> String {
        let answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
        let mut times: Vec<Duration> = answers
            .iter()
            .filter(|(asked, took)| *asked + *took >= from && *asked + *took < to)
            .map(|(_, took)| *took)
            .collect();
        times.sort_unstable();
        let at = |share: f64| {
            let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        let rate = times.len() as f64 / (to - from).as_secs_f64();
        format!(
            "{rate:.0}/s, p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms",
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().for_each(|writer| drop(writer.join()));
    }
}

/// Commands of 16 clients before, while a replica is brought up to date, and after.
fn beside_commands(
    bench: &Bench,
    at: &Replica,
    catch_up: impl FnOnce() -> Result<String>,
) -> Result {
    let span = Duration::from_secs(10);
    let load = Load::start(&at.address, bench.keys, bench.bytes);
    thread::sleep(span);
    let begins = Instant::now();
    let took = catch_up()?;
    let ends = Instant::now();
    thread::sleep(span);
    println!("  {took}");
    println!("  commands before: {}", load.between(begins - span, begins));
    println!("  commands during: {}", load.between(begins, ends));
    println!("  commands after:  {}", load.between(ends, ends + span));
    load.end();
    Ok(())
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// How long these take from their start until they are in step, and what was moved.
fn brought_up(replicas: &[&Replica], began: Instant) -> Result<String> {
    let mut moved = VecDeque::new();
    for replica in replicas {
        let transfer = replica.until("transfer", |info| {
            let done = info.field("obstacle").is_empty() && info.number("applied") > 0;
            info.transfer().map(Some).or(done.then_some(None))
        })?;
        let first = Instant::now();
        replica.until("end of the transfer", |info| info.transfer().is_none().then_some(()))?;
        moved.push_back((transfer, seconds(first)));
        replica.until_in_step()?;
    }
    let all = seconds(began);
    let Some((Some((_, _, bytes)), transfer)) = moved.pop_front() else {
        return Ok(format!("in step after {all:.1} s, from entries"));
    };
    let mb = bytes as f64 / 1e6;
    Ok(format!(
        "in step after {all:.1} s; {mb:.0} MB of state in {transfer:.1} s, {:.1} MB/s",
        mb / transfer
    ))
}

fn memory_of(what: &str, replica: &Replica, before: u64) -> Result {
    let (now, peak) = replica.memory()?;
    let above = peak.saturating_sub(before.max(now));
    println!(
        "  memory of {what}: {before} MiB before, {peak} MiB at most, {now} MiB after: {above} MiB above"
    );
    Ok(())
}

fn run(bench: &Bench) -> Result {
    println!("raw: {:.0} MB/s in messages of a chunk's size", bench.raw()?);
    let mut group: Vec<Replica> = (1..=3).map(|id| bench.start_empty(id)).collect::<Result<_>>()?;
    for replica in &group {
        replica.until_in_step()?;
    }
    let rate = fill(&group[0].address, 0..bench.keys, bench.bytes)?;
    println!("{} keys of {} bytes set at {rate:.0}/s", bench.keys, bench.bytes);

    println!("an empty joiner, nothing else to do:");
    let before: Vec<u64> = group.iter().map(|r| Ok(r.memory()?.0)).collect::<Result<_>>()?;
    group.iter().try_for_each(Replica::forget_peak)?;
    let began = Instant::now();
    let joiner = bench.start_empty(4)?;
    println!("  {}", brought_up(&[&joiner], began)?);
    for (replica, before) in group.iter().zip(before) {
        memory_of(&format!("replica {}", replica.id), replica, before)?;
    }
    memory_of("the joiner", &joiner, 0)?;
    drop(joiner);

    println!("an empty joiner beside commands:");
    let mut joiner = None;
    beside_commands(bench, &group[0], || {
        let began = Instant::now();
        brought_up(&[joiner.insert(bench.start_empty(4)?)], began)
    })?;
    memory_of("the joiner", joiner.as_ref().ok_or("a joiner")?, 0)?;

    println!("the same one, {} s behind, beside commands:", bench.behind.as_secs());
    drop(joiner.take());
    let load = Load::start(&group[0].address, bench.keys, bench.bytes);
    thread::sleep(bench.behind);
    load.end();
    beside_commands(bench, &group[0], || {
        let began = Instant::now();
        brought_up(&[joiner.insert(bench.start(4)?)], began)
    })?;
    drop(joiner.take());

    println!("two empty joiners beside commands:");
    let mut two = Vec::new();
    beside_commands(bench, &group[0], || {
        let began = Instant::now();
        two = vec![bench.start_empty(4)?, bench.start_empty(5)?];
        brought_up(&two.iter().collect::<Vec<_>>(), began)
    })?;
    two.clear();

    println!("an empty joiner, whose donor is killed halfway:");
    let began = Instant::now();
    let joiner = bench.start_empty(4)?;
    let (donor, had) = joiner.until("half of the state", |info| {
        let (donor, here, all) = info.transfer()?;
        (here > all / 2).then_some((donor, here))
    })?;
    group.retain(|replica| replica.id != donor);
    let killed = Instant::now();
    let (other, here) = joiner.until("another donor", |info| {
        let (other, here, _) = info.transfer()?;
        (other != donor && here > had).then_some((other, here))
    })?;
    println!(
        "  replica {donor} was killed when {:.0} MB were there; {:.2} s later replica {other} had gone on to {:.0} MB",
        had as f64 / 1e6,
        seconds(killed),
        here as f64 / 1e6
    );
    joiner.until_in_step()?;
    println!("  in step after {:.1} s", seconds(began));
    drop(joiner);

    println!("a replica that starts again with its folder:");
    if let Some(mut last) = group.pop() {
        let (before, _) = last.memory()?;
        let id = last.id;
        let _ = last.child.kill();
        drop(last);
        let back = bench.start(donor)?;
        back.until_in_step()?;
        let began = Instant::now();
        let again = bench.start(id)?;
        again.until_in_step()?;
        println!("  in step after {:.1} s", seconds(began));
        memory_of("it", &again, before)?;
    }
    println!("raw: {:.0} MB/s", bench.raw()?);
    Ok(())
}

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, kv, flood, folder, keys, bytes, behind] = &arguments[..] else {
        return Err("transfer ENGINE KV FLOOD FOLDER KEYS BYTES SECONDS_BEHIND".into());
    };
    let bench = Bench {
        corosync: engine == "corosync",
        kv: kv.into(),
        flood: flood.into(),
        folder: folder.into(),
        keys: keys.parse()?,
        bytes: bytes.parse()?,
        behind: Duration::from_secs(behind.parse()?),
    };
    fs::create_dir_all(&bench.folder)?;
    run(&bench)
}
