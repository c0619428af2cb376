//! Counts what `INFO` reports about a server's work.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::command::Output;

/// Number of recent seconds with a counter of their own.
const SECONDS_KEPT: usize = 4;

/// Number of low bits of such a counter that hold the count. The high bits hold the second.
const COUNT_BITS: u32 = 40;

/// Statistics of a server since it started.
#[derive(Debug)]
pub(crate) struct Statistics {
    started: Instant,
    /// Random id of this run of the server: 40 hexadecimal digits.
    pub(super) run_id: String,
    commands: AtomicU64,
    recent: [AtomicU64; SECONDS_KEPT],
    hits: AtomicU64,
    misses: AtomicU64,
    pub(super) input_bytes: AtomicU64,
    pub(super) output_bytes: AtomicU64,
    /// Number of connections rejected because there were too many.
    pub(super) rejected: AtomicU64,
}

impl Statistics {
    pub(super) fn new() -> Self {
        // Each `RandomState` has random keys, so the hashes are random numbers.
        let word = |_| format!("{:016x}", RandomState::new().hash_one(0));
        let run_id: String = (0..3).map(word).collect();
        Self {
            started: Instant::now(),
            run_id: run_id[..40].to_owned(),
            commands: AtomicU64::new(0),
            recent: Default::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            input_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    /// Counts requests that have just been read.
    pub(super) fn count_commands(&self, count: u64) {
        if count > 0 {
            self.count_commands_at(count, self.started.elapsed());
        }
    }

    fn count_commands_at(&self, count: u64, uptime: Duration) {
        self.commands.fetch_add(count, Ordering::Relaxed);
        let second = uptime.as_secs();
        let cell = &self.recent[second as usize % SECONDS_KEPT];
        let add = |old: u64| {
            Some(if old >> COUNT_BITS == second {
                old + count
            } else {
                second << COUNT_BITS | count
            })
        };
        // Cannot fail, because the function always returns a value.
        let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    pub(super) fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Returns the number of commands in the last full second.
    pub(super) fn commands_per_second(&self) -> u64 {
        self.commands_per_second_at(self.started.elapsed())
    }

    fn commands_per_second_at(&self, uptime: Duration) -> u64 {
        let Some(second) = uptime.as_secs().checked_sub(1) else { return 0 };
        let counted = self.recent[second as usize % SECONDS_KEPT].load(Ordering::Relaxed);
        if counted >> COUNT_BITS == second { counted & ((1 << COUNT_BITS) - 1) } else { 0 }
    }

    /// Counts the keys that a read has found and not found, as far as its output shows.
    pub(super) fn count_keys(&self, output: &Output) {
        let (hits, misses) = looked_up(output);
        if hits > 0 {
            self.hits.fetch_add(hits, Ordering::Relaxed);
        }
        if misses > 0 {
            self.misses.fetch_add(misses, Ordering::Relaxed);
        }
    }

    /// Returns the number of keys found and the number of keys not found.
    pub(super) fn keys(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

fn looked_up(output: &Output) -> (u64, u64) {
    match output {
        Output::Value(_) => (1, 0),
        Output::Absent => (0, 1),
        Output::Values(values) => {
            let hits = values.iter().flatten().count();
            (hits as u64, (values.len() - hits) as u64)
        }
        Output::Transaction(Some(outputs)) if outputs.len() == 1 => looked_up(&outputs[0]),
        _ => (0, 0),
    }
}

/// Returns the resident memory of this process in bytes, if the system reports it.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_per_second() {
        let statistics = Statistics::new();
        let at = |ms| Duration::from_millis(ms);
        assert_eq!(statistics.commands_per_second_at(at(100)), 0);
        statistics.count_commands_at(2, at(900));
        statistics.count_commands_at(3, at(1000));
        statistics.count_commands_at(4, at(1999));
        assert_eq!(statistics.commands_per_second_at(at(1999)), 2);
        assert_eq!(statistics.commands_per_second_at(at(2000)), 7);
        assert_eq!(statistics.commands_per_second_at(at(3000)), 0);
        statistics.count_commands_at(1, at(5500));
        assert_eq!(statistics.commands_per_second_at(at(6000)), 1);
        assert_eq!(statistics.commands_per_second_at(at(100_000)), 0);
        assert_eq!(statistics.commands(), 10);
        assert_eq!(statistics.run_id.len(), 40);
        assert_ne!(statistics.run_id, Statistics::new().run_id);
    }
}
