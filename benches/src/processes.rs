//! Processes of `kv serve`, on this host or in the network namespaces of a cluster, and clients
//! that put load on them.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::percentile;

/// The result of a measurement.
pub type Result<V = ()> = std::result::Result<V, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(1800);
const LOOK: Duration = Duration::from_millis(20);
const WRITERS: u64 = 16;

/// The environment in which replicas of kv are started.
pub struct Place {
    /// If true, replica N runs in the network namespace `nodeN` with a Corosync daemon; otherwise
    /// all run on this host.
    pub corosync: bool,
    /// Path of the program.
    pub kv: PathBuf,
    /// Directory of the data, the logs and the embedded ring.
    pub folder: PathBuf,
    /// Additional arguments of `kv serve`.
    pub options: Vec<String>,
}

/// A process of `kv serve`, which is killed when this is dropped.
pub struct Replica {
    /// Its replica id.
    pub id: u32,
    child: Child,
    /// Its address for clients.
    pub address: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // With Corosync, the child has become the replica by `exec`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    /// Returns a command that runs in the node of a replica.
    pub fn command(&self, id: u32, program: &Path) -> Command {
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

    /// Starts a replica with the data in its directory. The first three replicas are the voters.
    pub fn start(&self, id: u32) -> Result<Replica> {
        let host = if self.corosync { format!("10.77.0.{id}") } else { "127.0.0.1".into() };
        let address = format!("{host}:{}", 7000 + id);
        let mut command = self.command(id, &self.kv);
        command.args(["serve", "--id", &id.to_string(), "--listen", &address]);
        command.args(["--engine", &self.engine(), "--timeout", "60"]).args(&self.options);
        command.arg("--data-dir");
        command.arg(self.data(id));
        if id <= 3 {
            command.args(["--voters", "1,2,3"]);
        }
        if self.corosync {
            // The namespaces are connected only to each other.
            command.arg("--allow-remote");
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("log-{id}")))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        Ok(Replica { id, child, address })
    }

    /// Starts a replica without data.
    pub fn start_empty(&self, id: u32) -> Result<Replica> {
        let _ = fs::remove_dir_all(self.data(id));
        self.start(id)
    }
}

/// A client that leaves pipelining to its caller.
pub struct ServerClient(BufReader<TcpStream>);

impl ServerClient {
    /// Connects. Reads time out after half an hour.
    pub fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::with_capacity(1 << 16, stream)))
    }

    /// Sends one request or several.
    pub fn send(&mut self, bytes: &[u8]) -> Result {
        Ok(self.0.get_mut().write_all(bytes)?)
    }

    /// Receives one reply; of a bulk string, its content.
    pub fn reply(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err("the replica has closed the connection".into());
        }
        let line = line.trim_end();
        let Some(length) = line.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
            return Ok(line.into());
        };
        let mut content = vec![0; length + 2];
        self.0.read_exact(&mut content)?;
        Ok(String::from_utf8(content)?)
    }

    /// Returns the replica's status.
    pub fn info(&mut self) -> Result<Info> {
        self.send(b"INFO replication\r\n")?;
        Ok(Info(self.reply()?))
    }
}

/// The answer to `INFO replication`.
pub struct Info(pub String);

impl Info {
    /// Returns the value of a field, or an empty string.
    pub fn field(&self, name: &str) -> &str {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim()
    }

    /// Returns the value of a field as a number, or zero.
    pub fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or(0)
    }
}

impl Replica {
    /// Returns its status.
    pub fn info(&self) -> Result<Info> {
        ServerClient::connect(&self.address)?.info()
    }

    /// Polls the status until `look` returns a value.
    pub fn until<V>(&self, what: &str, mut look: impl FnMut(&Info) -> Option<V>) -> Result<V> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.info().ok().as_ref().and_then(&mut look) {
                return Ok(found);
            }
            let process = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
            if process.contains(") Z ") {
                return Err(format!("replica {} has ended; see its log", self.id).into());
            }
            if Instant::now() > deadline {
                return Err(format!("replica {}: no {what} in {PATIENCE:?}", self.id).into());
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until it follows, has applied entries, and waits for nothing.
    pub fn until_in_step(&self) -> Result<Info> {
        self.until("end of catching up", |info| {
            // kv also has a field with the Redis role.
            let role = [info.field("plainsong_role"), info.field("role")];
            let follows =
                ["learner", "voter", "sequencer"].iter().any(|follows| role.contains(follows));
            let applied = info.number("applied") > 0;
            (follows && applied && info.field("obstacle").is_empty()).then(|| Info(info.0.clone()))
        })
    }

    /// Returns the current and the peak resident memory of the process, in MiB.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
            line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
        };
        Ok((field("VmRSS:"), field("VmHWM:")))
    }

    /// Resets the peak of the resident memory.
    pub fn forget_peak(&self) -> Result {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}

/// Returns a request that sets a key.
pub fn set(number: u64, value: &str) -> String {
    let key = key(number);
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len())
}

/// Returns a value that hardly compresses and differs for each key.
pub fn value(number: u64, bytes: usize) -> String {
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

/// Clients that each set one key after the other, with the time of every answer.
pub struct Writers {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<(Instant, Duration)>>>,
    writers: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts 16 clients that write to `keys` keys with values of `bytes` bytes.
    pub fn start(address: &str, keys: u64, bytes: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let writers = (0..WRITERS).map(|writer| {
            let (stop, answers, address) =
                (Arc::clone(&stop), Arc::clone(&answers), address.to_owned());
            thread::spawn(move || {
                let Ok(mut client) = ServerClient::connect(&address) else { return };
                let mut number = writer;
                while !stop.load(Ordering::Relaxed) {
                    number = (number + 7919 * WRITERS) % keys;
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

    /// Describes the answers between two times.
    pub fn between(&self, from: Instant, to: Instant) -> String {
        let answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
        let mut times: Vec<Duration> = answers
            .iter()
            .filter(|(asked, took)| *asked + *took >= from && *asked + *took < to)
            .map(|(_, took)| *took)
            .collect();
        times.sort_unstable();
        let at = |share: f64| percentile(&times, share).unwrap_or_default().as_secs_f64() * 1e3;
        let rate = times.len() as f64 / (to - from).as_secs_f64();
        format!(
            "{rate:.0}/s, p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms",
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }

    /// Returns the longest time without an answer between two times.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
        let answered = answers.iter().map(|(asked, took)| *asked + *took);
        let mut moments: Vec<Instant> =
            answered.filter(|at| (from..to).contains(at)).chain([from, to]).collect();
        moments.sort_unstable();
        let gaps = moments.windows(2).map(|two| two[1] - two[0]);
        gaps.max().unwrap_or_default()
    }

    /// Stops the clients after their last answers.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().for_each(|writer| drop(writer.join()));
    }
}
