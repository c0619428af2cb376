//! Appends records with one sync per write. The log is kept short by compaction, and sometimes
//! truncated.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::peer::{self, NAMES, Peer, Result, Write};

/// Bytes of a record, and records per write.
const SHAPES: [(usize, usize); 8] =
    [(128, 1), (128, 64), (1024, 1), (1024, 16), (8192, 1), (8192, 16), (65536, 1), (65536, 8)];
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(1000);
/// Size of the log.
const KEPT_BYTES: usize = 64 << 20;
const ROOM: u64 = 256 << 20;

/// Consecutive writes of one peer.
pub struct Load {
    bytes: Vec<u8>,
    size: usize,
    count: usize,
    last: u64,
    compacted: u64,
    writes: u64,
}

impl Load {
    pub fn new(size: usize, count: usize) -> Self {
        // Incompressible bytes.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let bytes = std::iter::repeat_with(&mut next).take(1 << 18).flatten().collect();
        Self { bytes, size, count, last: 0, compacted: 0, writes: 0 }
    }

    pub fn bytes_written(&self) -> u64 {
        self.last * self.size as u64
    }

    /// Returns a write of `count` records. Every 16th write compacts, every 100th truncates two
    /// records first, and every 200th stores facts.
    pub fn write(&mut self, peer: &mut dyn Peer, kept_bytes: usize) -> Result<()> {
        self.writes += 1;
        let cut = (self.writes % 100 == 0 && self.last > self.compacted + 2).then(|| self.last - 2);
        let from = cut.unwrap_or(self.last) + 1;
        let append: Vec<(u64, &[u8])> = (from..from + self.count as u64)
            .map(|index| {
                let start = index as usize * 64 % (self.bytes.len() - self.size);
                (index, &self.bytes[start..start + self.size])
            })
            .collect();
        self.last = from + self.count as u64 - 1;
        let kept = (kept_bytes / self.size) as u64;
        let compact =
            (self.writes % 16 == 0 && self.last > kept + self.compacted).then(|| self.last - kept);
        self.compacted = compact.unwrap_or(self.compacted);
        let facts = (self.writes % 200 == 0).then_some(&self.bytes[..100]);
        peer.write(&Write { facts, cut, append: &append, compact })
    }
}

pub fn compare(folder: &Path) -> Result<()> {
    println!(
        "bytes x records | writes per second, median of {ROUNDS} rounds | ratio to plain (min to max)"
    );
    for (size, count) in SHAPES {
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); NAMES.len()];
        for round in 0..ROUNDS {
            for turn in 0..NAMES.len() {
                // A different peer begins each round.
                let who = (turn + round) % NAMES.len();
                rates[who].push(rate(NAMES[who], folder, size, count)?);
            }
        }
        let plain = rates[0].clone();
        for (name, rates) in NAMES.iter().zip(&rates) {
            let mut ratios: Vec<f64> = rates.iter().zip(&plain).map(|(a, b)| a / b).collect();
            ratios.sort_by(f64::total_cmp);
            let mut rates = rates.clone();
            rates.sort_by(f64::total_cmp);
            println!(
                "{size:>6} x {count:<3} {name:<12} {:>8.0}/s {:>7.1} MB/s   {:.2} ({:.2} to {:.2})",
                rates[ROUNDS / 2],
                rates[ROUNDS / 2] * (size * count) as f64 / 1e6,
                ratios[ROUNDS / 2],
                ratios[0],
                ratios[ROUNDS - 1],
            );
        }
    }
    Ok(())
}

fn rate(name: &str, folder: &Path, size: usize, count: usize) -> Result<f64> {
    let folder = folder.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let mut peer = peer::open(name, &folder, ROOM)?;
    let mut load = Load::new(size, count);
    let warm = Instant::now();
    while warm.elapsed() < TIME / 3 {
        load.write(peer.as_mut(), KEPT_BYTES)?;
    }
    let (begin, before) = (Instant::now(), load.writes);
    while begin.elapsed() < TIME {
        load.write(peer.as_mut(), KEPT_BYTES)?;
    }
    let rate = (load.writes - before) as f64 / begin.elapsed().as_secs_f64();
    drop(peer);
    std::fs::remove_dir_all(&folder)?;
    Ok(rate)
}
