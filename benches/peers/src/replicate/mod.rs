//! Compares frameworks with three replicas in one process: a number of concurrent commands of 64
//! bytes, applied to a map at each replica and answered.

mod omnipaxos;
mod openraft;
mod plainsong;
mod raft_rs;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::peer::Result;

const TIME: Duration = Duration::from_secs(1);
const WARM: Duration = Duration::from_millis(300);
const KEYS: u64 = 100_000;

/// A command: 64 bytes.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Put {
    key: u64,
    value: [u64; 7],
}

impl Put {
    fn of(key: u64) -> Self {
        Self { key, value: [key; 7] }
    }

    fn to_bytes(self) -> Vec<u8> {
        let numbers = std::iter::once(self.key).chain(self.value);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut put = Self::of(0);
        let (key, value) = bytes.split_first_chunk::<8>()?;
        put.key = u64::from_le_bytes(*key);
        for (at, number) in value.as_chunks::<8>().0.iter().take(7).enumerate() {
            put.value[at] = u64::from_le_bytes(*number);
        }
        Some(put)
    }
}

/// The state of each replica.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Map(BTreeMap<u64, [u64; 7]>);

impl Map {
    fn apply(&mut self, put: Put) -> usize {
        self.0.insert(put.key % KEYS, put.value);
        self.0.len()
    }
}

/// Counts answers after a warm-up.
struct Watch {
    begin: Instant,
    from: Option<Instant>,
    answers: u64,
}

impl Watch {
    fn new() -> Self {
        Self { begin: Instant::now(), from: None, answers: 0 }
    }

    fn answered(&mut self, count: u64) {
        if self.from.is_some() {
            self.answers += count;
        } else if self.begin.elapsed() > WARM {
            self.from = Some(Instant::now());
        }
    }

    fn is_over(&self) -> bool {
        self.begin.elapsed() > WARM + TIME
    }

    fn rate(&self) -> f64 {
        self.from.map_or(0.0, |from| self.answers as f64 / from.elapsed().as_secs_f64())
    }
}

type Run = fn(usize) -> Result<f64>;

const PEERS: [(&str, Run); 4] = [
    ("plainsong", plainsong::run),
    ("openraft", openraft::run),
    ("raft-rs, core", raft_rs::run),
    ("omnipaxos, core", omnipaxos::run),
];

pub fn compare(rounds: usize) -> Result<()> {
    println!(
        "concurrent | answers per second, median of {rounds} rounds | plainsong's ratio to it (min to max)"
    );
    for callers in [1, 64, 1024] {
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); PEERS.len()];
        for round in 0..rounds {
            for turn in 0..PEERS.len() {
                let who = (turn + round) % PEERS.len();
                rates[who].push(PEERS[who].1(callers)?);
            }
        }
        let mine = rates[0].clone();
        for ((name, _), rates) in PEERS.iter().zip(&mut rates) {
            let mut ratios: Vec<f64> = mine.iter().zip(&*rates).map(|(a, b)| a / b).collect();
            ratios.sort_by(f64::total_cmp);
            rates.sort_by(f64::total_cmp);
            println!(
                "{callers:>6} {name:<16} {:>9.0}/s   {:.2} ({:.2} to {:.2})",
                rates[rounds / 2],
                ratios[rounds / 2],
                ratios[0],
                ratios[rounds - 1],
            );
        }
    }
    Ok(())
}
