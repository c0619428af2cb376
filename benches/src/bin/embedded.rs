//! Measures three replicas in one process on the embedded transport, with commands of 64 bytes that
//! set values in a map.
//!
//! `benches/run embedded [SECONDS]`

use std::thread;
use std::time::{Duration, Instant};

use cpg::embedded::LocalRing;
use plainsong::{Consistency, Replica, ReplicaId, Role};
use plainsong_benches::load::{Work, processor_time};
use plainsong_benches::{Load, Map, Measured};

fn start(ring: &LocalRing) -> Vec<Replica<Map>> {
    let mut replicas: Vec<_> = (1..=3)
        .map(|id| {
            Replica::builder(ReplicaId(id), Map::default())
                .transport(ring.node())
                .bootstrap((1..=3).map(ReplicaId))
                .start()
        })
        .filter_map(Result::ok)
        .collect();
    while !replicas.iter().any(|replica| replica.status().role == Role::Sequencer) {
        thread::yield_now();
    }
    replicas.sort_by_key(|replica| replica.status().role != Role::Sequencer);
    replicas
}

/// Runs the load on each of these replicas.
fn run(at: &[Replica<Map>], load: Load) -> Measured {
    let found: Vec<Measured> = thread::scope(|scope| {
        let callers: Vec<_> = at.iter().map(|one| scope.spawn(|| load.put_on(one))).collect();
        callers.into_iter().filter_map(|callers| callers.join().ok()).collect()
    });
    Measured {
        rate: found.iter().map(|one| one.rate).sum(),
        p50_us: found.iter().map(|one| one.p50_us).sum::<f64>() / found.len() as f64,
        p99_us: found.iter().map(|one| one.p99_us).fold(0.0, f64::max),
    }
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let time = Duration::from_secs_f64(seconds);
    println!(
        "{:>12} {:>10} {:>8} {:>10} {:>9} {:>9} {:>8}",
        "work", "at", "callers", "a second", "p50 us", "p99 us", "cpu us"
    );
    for work in ["64", "linearizable", "local"] {
        for (name, from, count) in [("sequencer", 0, 1), ("elsewhere", 1, 1), ("everywhere", 0, 3)]
        {
            for callers in [1, 8, 64, 1024, 4096] {
                let ring = LocalRing::new();
                let replicas = start(&ring);
                let work = match work {
                    "linearizable" => Work::Read(Consistency::Linearizable),
                    "local" => Work::Read(Consistency::Local),
                    _ => Work::Propose(64),
                };
                let load = Load { work, callers, time };
                let (before, began) = (processor_time(), Instant::now());
                let found = run(&replicas[from..from + count], load);
                let processor = (processor_time() - before).as_secs_f64() * 1e6;
                println!(
                    "{:>12} {name:>10} {callers:>8} {:>10.0} {:>9.1} {:>9.1} {:>8.2}",
                    load.to_string().split(' ').next().unwrap_or_default(),
                    found.rate,
                    found.p50_us,
                    found.p99_us,
                    processor / (found.rate * began.elapsed().as_secs_f64()),
                );
            }
        }
    }
}
