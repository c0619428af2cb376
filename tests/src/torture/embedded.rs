//! A separate group on the embedded transport, whose socket receives malformed data.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plainsong::testing::Random;

use super::faults::span;
use super::group::Group;
use super::service::Service;
use super::{RECOVERY_MAX, Result, wrong};
use crate::client::{KV_PORT, NodeClient, Reply};
use crate::rig::{Node, Program};

/// Number of replicas. The first is the hub, which is killed.
const REPLICAS: u16 = 3;
/// Base of the replicas' ports, beyond the ports of all other programs.
const PORT: u16 = KV_PORT + 100;
/// Time that a client waits for an answer. Longer than kv's own timeout.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(5);

/// Runs an embedded group on a node and increments a counter in it, while its socket receives
/// malformed data and its hub is killed. No other replica may end, and no acknowledged increment
/// may be lost.
pub(super) fn receives_nonsense(group: &Group, at: u32, random: &mut Random) -> Result<()> {
    let node = group.node(at);
    let ring = node.directory().join("embedded.ring");
    let replicas: Vec<Program> =
        (1..=REPLICAS).map(|id| start(node, id, &ring)).collect::<Result<_>>()?;
    let (hub, others) = replicas.split_first().ok_or_else(|| wrong("no replicas"))?;
    let mut count = Count::default();
    count.increment(node, 1..=REPLICAS, Instant::now())?;
    let stop = AtomicBool::new(false);
    let (seed, half, rest) = (random.number(), span(random), span(random));
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send_nonsense(&ring, seed, &stop));
        let counted = count
            .increment(node, 1..=REPLICAS, Instant::now() + half)
            .and_then(|()| Ok(hub.kill()?))
            .and_then(|()| count.increment(node, 2..=REPLICAS, Instant::now() + rest));
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        counted.map(|()| sent)
    })?;
    group.note(&format!(
        "an embedded group received malformed data {sent} times; increments: {count:?}"
    ));
    for (replica, id) in others.iter().zip(2..) {
        if let Some(status) = replica.status() {
            return Err(wrong(format!("embedded replica {id} ended with {status}")));
        }
        count.check(node, id)?;
    }
    others.iter().try_for_each(Program::kill).map_err(Into::into)
}

fn start(node: &Node, id: u16, ring: &Path) -> Result<Program> {
    let mut command = node.command(Service::Kv.program()?);
    command.args(["serve", "--voters", "1,2,3", "--id", &id.to_string(), "--timeout", "3"]);
    command.args(["--listen", &format!("127.0.0.1:{}", PORT + id)]);
    command.arg("--engine").arg(format!("embedded:{}", ring.display()));
    let program = node.spawn("embedded", command)?;
    // Wait, so that the first replica becomes the hub.
    program.wait_for_line("replica", RECOVERY_MAX)?;
    Ok(program)
}

/// Results of the `INCR` calls.
#[derive(Debug, Default)]
struct Count {
    acknowledged: u64,
    unknown: u64,
}

impl Count {
    /// Increments the counter at the replicas in turn until `until`, and at least once.
    fn increment(
        &mut self,
        node: &Node,
        ids: std::ops::RangeInclusive<u16>,
        until: Instant,
    ) -> Result<()> {
        let (before, deadline) = (self.acknowledged, Instant::now() + RECOVERY_MAX);
        for id in ids.cycle() {
            match ask(node, id, "INCR count")? {
                Some(Reply::Error(error)) if !error.starts_with("UNKNOWN outcome") => {}
                Some(Reply::Text(_)) => self.acknowledged += 1,
                _ => self.unknown += 1,
            }
            if Instant::now() > until && self.acknowledged > before {
                break;
            }
            if Instant::now() > deadline {
                return Err(wrong(format!("the embedded group does not answer: {self:?}")));
            }
            thread::sleep(RETRY);
        }
        Ok(())
    }

    fn check(&self, node: &Node, id: u16) -> Result<()> {
        let reply = ask(node, id, "GET count")?;
        let Some(Reply::Text(value)) = &reply else {
            return Err(wrong(format!(
                "embedded replica {id} answers {reply:?}, expected {self:?}"
            )));
        };
        let all = self.acknowledged..=self.acknowledged + self.unknown;
        if value.parse().is_ok_and(|value: u64| all.contains(&value)) {
            return Ok(());
        }
        Err(wrong(format!("embedded replica {id} has the count {value}, expected {self:?}")))
    }
}

/// Returns the answer of a replica, or `None` if there is none.
fn ask(node: &Node, id: u16, command: &str) -> Result<Option<Reply>> {
    let Some(mut kv) = NodeClient::connect(node, PORT + id)? else { return Ok(None) };
    Ok(kv.set_patience(PATIENCE).and_then(|()| kv.ask(command)).ok())
}

/// Sends malformed data to the socket: random bytes and frames of all kinds with random contents,
/// half of the time after a valid hello. Returns the number of connections that were accepted.
fn send_nonsense(ring: &Path, seed: u64, stop: &AtomicBool) -> u64 {
    let mut random = Random::new(seed);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut socket) = UnixStream::connect(ring) else {
            thread::sleep(RETRY);
            continue;
        };
        let mut bytes = Vec::new();
        if random.chance(500) {
            bytes.extend(hello(random.number()));
        }
        for _ in 0..random.below(5) {
            let body: Vec<u8> = (0..random.below(200)).map(|_| random.number() as u8).collect();
            if random.chance(800) {
                // The kind is one more byte.
                bytes.extend((body.len() as u32 + 1).to_le_bytes());
                bytes.push(random.below(12) as u8);
            }
            bytes.extend(body);
        }
        // An error does not matter: the hub has closed the connection.
        let _ = socket.write_all(&bytes);
        sent += 1;
        thread::sleep(RETRY);
    }
    sent
}

/// Returns the first frame of a connection, as defined in docs/formats.md: kind 1, magic, version,
/// a number for the connection, the process id, and no held messages.
fn hello(number: u64) -> Vec<u8> {
    let mut fields = vec![1];
    fields.extend(b"eGPC");
    fields.extend(1_u16.to_le_bytes());
    fields.extend(number.to_le_bytes());
    fields.extend(std::process::id().to_le_bytes());
    fields.push(0);
    [&(fields.len() as u32).to_le_bytes()[..], &fields].concat()
}
