//! Three replicas in one process on the embedded engine: commands of 64 bytes, applied to a
//! map and answered.
//!
//! `cargo run --release -p plainsong-benches --bin embedded [SECONDS]`

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cpg::embedded::Ring;
use plainsong::{Context, Pending, Replica, ReplicaId, Role, StateMachine};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Map(BTreeMap<u64, [u64; 7]>);

#[derive(Serialize, Deserialize)]
struct Put {
    key: u64,
    value: [u64; 7],
}

impl StateMachine for Map {
    type Command = Put;
    type Output = usize;

    fn apply(&mut self, _: &Context, Put { key, value }: Put) -> usize {
        self.0.insert(key % 100_000, value);
        self.0.len()
    }

    plainsong::snapshot_by_clone!();
}

struct Measured {
    per_second: f64,
    latencies: Vec<Duration>,
}

impl Measured {
    fn percentile(&mut self, share: f64) -> Duration {
        self.latencies.sort_unstable();
        let at = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

fn start(ring: &Ring) -> Vec<Replica<Map>> {
    let replicas: Vec<_> = (1..=3)
        .map(|id| {
            Replica::builder(ReplicaId(id), Map::default())
                .engine(ring.node())
                .bootstrap((1..=3).map(ReplicaId))
                .start()
        })
        .filter_map(Result::ok)
        .collect();
    while !replicas.iter().any(|replica| replica.status().role == Role::Sequencer) {
        thread::yield_now();
    }
    replicas
}

/// Proposes at these replicas, each keeping `in_flight` commands under way.
fn run(proposers: &[&Replica<Map>], in_flight: usize, time: Duration) -> Measured {
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let latencies = thread::scope(|scope| {
        let (stop, answered) = (&stop, &answered);
        let workers: Vec<_> = proposers
            .iter()
            .map(|replica| scope.spawn(move || propose(replica, in_flight, stop, answered)))
            .collect();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    });
    let per_second = answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    Measured { per_second, latencies }
}

fn propose(
    replica: &Replica<Map>,
    in_flight: usize,
    stop: &AtomicBool,
    answered: &AtomicU64,
) -> Vec<Duration> {
    let mut under_way: VecDeque<(Instant, Pending<usize>)> = VecDeque::new();
    let mut latencies = Vec::new();
    let mut key = 0;
    while !stop.load(Ordering::Relaxed) {
        while under_way.len() < in_flight {
            key += 1;
            let put = Put { key, value: [key; 7] };
            under_way.push_back((Instant::now(), replica.propose(put)));
        }
        // Half of them, so that the other half keeps the replica busy meanwhile.
        for _ in 0..in_flight.div_ceil(2) {
            let Some((since, pending)) = under_way.pop_front() else { break };
            if pending.wait().is_ok() {
                answered.fetch_add(1, Ordering::Relaxed);
                latencies.push(since.elapsed());
            }
        }
    }
    latencies
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let time = Duration::from_secs_f64(seconds);
    println!(
        "{:>10} {:>10} {:>12} {:>10} {:>10}",
        "proposers", "in flight", "commands/s", "p50", "p99"
    );
    for (count, in_flight) in [(1, 1), (1, 64), (1, 1024), (1, 4096), (3, 1), (3, 1024)] {
        let ring = Ring::new();
        let replicas = start(&ring);
        let sequencer_first = {
            let mut order: Vec<_> = replicas.iter().collect();
            order.sort_by_key(|replica| replica.status().role != Role::Sequencer);
            order
        };
        for (label, from) in [("sequencer", 0), ("other", 1)] {
            if count == 3 && from == 1 {
                continue;
            }
            let proposers = &sequencer_first[from..from + count];
            let mut measured = run(proposers, in_flight, time);
            let (half, most) = (measured.percentile(0.5), measured.percentile(0.99));
            let who = if count == 3 { "all three" } else { label };
            println!(
                "{who:>10} {in_flight:>10} {:>12.0} {half:>10.1?} {most:>10.1?}",
                measured.per_second
            );
        }
    }
}
