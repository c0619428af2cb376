//! Measures how long `kv` takes to bring a replica up to date, the effect on concurrent writers,
//! and the memory used by both ends. Started by `benches/transfer/run`.
//!
//! ```text
//! transfer ENGINE KV FLOOD FOLDER KEYS BYTES SECONDS_BEHIND KEPT
//! ```
//!
//! Three replicas hold `KEYS` keys with values of `BYTES` bytes each, on disk, and keep `KEPT` log
//! entries behind their snapshots: with a small number, a lagging replica gets a snapshot. With
//! `corosync` each replica runs in the network namespace `nodeN`, otherwise all run on this host.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plainsong_benches::processes::{
    Info, Place, Replica, Result, ServerClient, Writers, set, value,
};

const CHUNK_BYTES: u64 = 61_440;

struct Bench {
    place: Place,
    flood: PathBuf,
    keys: u64,
    bytes: usize,
    behind: Duration,
}

impl Bench {
    /// Returns the megabytes per second of the transport alone, with messages of the size of a
    /// chunk.
    fn raw(&self) -> Result<f64> {
        let engine = match self.place.corosync {
            true => "corosync".into(),
            false => format!("embedded:{}", self.place.folder.join("flood").display()),
        };
        let message = CHUNK_BYTES + 200;
        let mut command = self.place.command(1, &self.flood);
        command.args(["3000", &message.to_string(), "8", &engine]);
        let output = command.output()?;
        let rate: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        Ok(rate * message as f64 / 1e6)
    }
}

/// Sets these keys, over several connections with long pipelines.
fn fill(address: &str, keys: std::ops::Range<u64>, bytes: usize) -> Result<f64> {
    let (began, count) = (Instant::now(), keys.end - keys.start);
    let next = AtomicU64::new(keys.start);
    thread::scope(|scope| {
        let fillers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> std::result::Result<(), String> {
                    let mut client = ServerClient::connect(address).map_err(|e| e.to_string())?;
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

/// Prints the commands of 16 clients before, during and after a replica is brought up to date.
fn beside_commands(
    bench: &Bench,
    at: &Replica,
    catch_up: impl FnOnce() -> Result<String>,
) -> Result {
    let span = Duration::from_secs(10);
    let load = Writers::start(&at.address, bench.keys, bench.bytes);
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

/// Returns the donor, the received bytes and the total bytes of a snapshot transfer.
fn under_way(info: &Info) -> Option<(u32, u64, u64)> {
    let (_, text) = info.field("obstacle").split_once("; replica ")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let bytes = words.iter().position(|word| *word == "of")?;
    let here = words.get(bytes.checked_sub(1)?)?.parse().ok()?;
    Some((words.first()?.parse().ok()?, here, words.get(bytes + 1)?.parse().ok()?))
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// Returns the time from the start of these replicas until they have caught up, and the transferred
/// bytes.
fn brought_up(replicas: &[&Replica], began: Instant) -> Result<String> {
    let mut moved = VecDeque::new();
    for replica in replicas {
        let transfer = replica.until("transfer", |info| {
            let done = info.field("obstacle").is_empty() && info.number("applied") > 0;
            under_way(info).map(Some).or(done.then_some(None))
        })?;
        let first = Instant::now();
        replica.until("end of the transfer", |info| under_way(info).is_none().then_some(()))?;
        moved.push_back((transfer, seconds(first)));
        replica.until_in_step()?;
    }
    let all = seconds(began);
    let Some((Some((_, _, bytes)), transfer)) = moved.pop_front() else {
        return Ok(format!("caught up after {all:.1} s, from entries"));
    };
    let mb = bytes as f64 / 1e6;
    Ok(format!(
        "caught up after {all:.1} s; {mb:.0} MB of state in {transfer:.1} s, {:.1} MB/s",
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

/// Returns the current memory of these replicas, and resets their peaks.
fn memory_before(group: &[Replica]) -> Result<Vec<u64>> {
    group.iter().try_for_each(Replica::forget_peak)?;
    group.iter().map(|replica| Ok(replica.memory()?.0)).collect()
}

fn memory_of_all(group: &[Replica], before: &[u64], joiner: &Replica) -> Result {
    for (replica, before) in group.iter().zip(before) {
        memory_of(&format!("replica {}", replica.id), replica, *before)?;
    }
    memory_of("the joiner", joiner, 0)
}

fn run(bench: &Bench) -> Result {
    println!("raw: {:.0} MB/s in messages of a chunk's size", bench.raw()?);
    let mut group: Vec<Replica> =
        (1..=3).map(|id| bench.place.start_empty(id)).collect::<Result<_>>()?;
    for replica in &group {
        replica.until_in_step()?;
    }
    let rate = fill(&group[0].address, 0..bench.keys, bench.bytes)?;
    println!("{} keys of {} bytes set at {rate:.0}/s", bench.keys, bench.bytes);

    println!("an empty joiner, no other load:");
    let before = memory_before(&group)?;
    let began = Instant::now();
    let joiner = bench.place.start_empty(4)?;
    println!("  {}", brought_up(&[&joiner], began)?);
    memory_of_all(&group, &before, &joiner)?;
    drop(joiner);

    println!("an empty joiner under load:");
    let mut joiner = None;
    let before = memory_before(&group)?;
    beside_commands(bench, &group[0], || {
        let began = Instant::now();
        brought_up(&[joiner.insert(bench.place.start_empty(4)?)], began)
    })?;
    memory_of_all(&group, &before, joiner.as_ref().ok_or("a joiner")?)?;

    println!("the same joiner, {} s behind, under load:", bench.behind.as_secs());
    drop(joiner.take());
    let load = Writers::start(&group[0].address, bench.keys, bench.bytes);
    thread::sleep(bench.behind);
    load.end();
    beside_commands(bench, &group[0], || {
        let began = Instant::now();
        brought_up(&[joiner.insert(bench.place.start(4)?)], began)
    })?;
    drop(joiner.take());

    println!("two empty joiners under load:");
    let mut two = Vec::new();
    beside_commands(bench, &group[0], || {
        let began = Instant::now();
        two = vec![bench.place.start_empty(4)?, bench.place.start_empty(5)?];
        brought_up(&two.iter().collect::<Vec<_>>(), began)
    })?;
    two.clear();

    println!("an empty joiner whose donor is killed halfway:");
    let began = Instant::now();
    let joiner = bench.place.start_empty(4)?;
    let (donor, had) = joiner.until("half of the state", |info| {
        let (donor, here, all) = under_way(info)?;
        (here > all / 2).then_some((donor, here))
    })?;
    group.retain(|replica| replica.id != donor);
    let killed = Instant::now();
    let (other, here) = joiner.until("another donor", |info| {
        let (other, here, _) = under_way(info)?;
        (other != donor && here > had).then_some((other, here))
    })?;
    println!(
        "  replica {donor} was killed after {:.0} MB; {:.2} s later replica {other} had sent up to {:.0} MB",
        had as f64 / 1e6,
        seconds(killed),
        here as f64 / 1e6
    );
    joiner.until_in_step()?;
    println!("  caught up after {:.1} s", seconds(began));
    drop(joiner);

    println!("a replica that is restarted with its data:");
    if let Some(mut last) = group.pop() {
        let (before, _) = last.memory()?;
        let id = last.id;
        last.kill()?;
        drop(last);
        let back = bench.place.start(donor)?;
        back.until_in_step()?;
        let began = Instant::now();
        let again = bench.place.start(id)?;
        again.until_in_step()?;
        println!("  caught up after {:.1} s", seconds(began));
        memory_of("it", &again, before)?;
    }
    println!("raw: {:.0} MB/s", bench.raw()?);
    Ok(())
}

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, kv, flood, folder, keys, bytes, behind, kept] = &arguments[..] else {
        return Err("transfer ENGINE KV FLOOD FOLDER KEYS BYTES SECONDS_BEHIND KEPT".into());
    };
    let bench = Bench {
        place: Place {
            corosync: engine == "corosync",
            kv: kv.into(),
            folder: folder.into(),
            options: vec!["--keep-entries".into(), kept.clone()],
        },
        flood: flood.into(),
        keys: keys.parse()?,
        bytes: bytes.parse()?,
        behind: Duration::from_secs(behind.parse()?),
    };
    fs::create_dir_all(&bench.place.folder)?;
    run(&bench)
}
