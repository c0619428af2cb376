//! Measures how long commands of `kv` are interrupted when the sequencer's process is killed.
//! Started by `benches/run failover`.
//!
//! ```text
//! failover ENGINE KV FOLDER KILLS
//! ```
//!
//! Three replicas have their data on disk. 16 clients of a replica that is not the sequencer set
//! one key after the other. The result is the longest time without an answer to any of them, from
//! 0.1 s before the kill to 2 s after it. It includes the time until the transport reports that the
//! process is gone.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use plainsong_benches::percentile;
use plainsong_benches::processes::{Place, Replica, Result, Writers};

const KEYS: u64 = 10_000;
const BYTES: usize = 64;
/// Time under load before a kill.
const BEFORE: Duration = Duration::from_secs(1);
/// Times before and after a kill that are evaluated.
const AROUND: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Longest times without an answer, without and with a kill.
fn kill_the_sequencer(place: &Place, group: &mut [Replica]) -> Result<(Duration, Duration)> {
    let mut sequencer = None;
    for (at, replica) in group.iter().enumerate() {
        let info = replica.until_in_step()?;
        if info.field("role") == "sequencer" {
            sequencer = Some(at);
        }
    }
    let sequencer = sequencer.ok_or("there is no sequencer")?;
    let entry = &group[(sequencer + 1) % group.len()];
    let writers = Writers::start(&entry.address, KEYS, BYTES);
    thread::sleep(BEFORE);
    let killed = Instant::now();
    let id = group[sequencer].id;
    group[sequencer].kill()?;
    thread::sleep(AROUND.1);
    let quiet = writers.longest_gap(killed - BEFORE / 2, killed);
    let gap = writers.longest_gap(killed - AROUND.0, killed + AROUND.1);
    writers.end();
    group[sequencer] = place.start(id)?;
    Ok((quiet, gap))
}

fn run(place: &Place, kills: usize) -> Result {
    let mut group: Vec<Replica> = (1..=3).map(|id| place.start_empty(id)).collect::<Result<_>>()?;
    let (mut quiet, mut gaps) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        let (without, with) = kill_the_sequencer(place, &mut group)?;
        quiet.push(without);
        gaps.push(with);
    }
    for (what, times) in [("half a second without a kill", &mut quiet), ("a kill", &mut gaps)] {
        times.sort_unstable();
        let at = |share: f64| percentile(times, share).unwrap_or_default().as_secs_f64() * 1e3;
        println!(
            "longest time without an answer, {what}, {kills} times: median {:.1} ms, p90 {:.1} ms, \
             p99 {:.1} ms, longest {:.1} ms",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
        );
    }
    Ok(())
}

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, kv, folder, kills] = &arguments[..] else {
        return Err("failover ENGINE KV FOLDER KILLS".into());
    };
    let kills: usize = kills.parse()?;
    if kills == 0 {
        return Err("at least one kill".into());
    }
    let place = Place {
        corosync: engine == "corosync",
        kv: kv.into(),
        folder: folder.into(),
        options: Vec::new(),
    };
    fs::create_dir_all(&place.folder)?;
    run(&place, kills)
}
