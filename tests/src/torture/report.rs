use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Fault;
use super::clients::Work;

/// The results of one round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) faults: Vec<Fault>,
    /// Time from healing until every replica voted and answered.
    pub(super) recovery: Duration,
    pub(super) work: Work,
    /// Highest numbers of one replica.
    pub(super) descriptors: usize,
    pub(super) memory_kib: u64,
}

impl Round {
    fn name(&self) -> String {
        let names: Vec<&str> = self.faults.iter().map(|fault| fault.name()).collect();
        names.join(" + ")
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recovery, work, descriptors, memory_kib, .. } = self;
        write!(
            f,
            "{}: no answer for {:.2} s, healthy after {:.2} s; {} answers, {} unknown; {} \
             descriptors, {} MiB",
            self.name(),
            work.longest_gap.as_secs_f64(),
            recovery.as_secs_f64(),
            work.answers,
            work.unknown,
            descriptors,
            memory_kib >> 10,
        )
    }
}

/// The results of all rounds, by fault.
#[derive(Debug, Default)]
pub struct Report {
    rows: BTreeMap<&'static str, Row>,
    rounds: u64,
    answers: u64,
    unknown: u64,
    descriptors: usize,
    memory_kib: u64,
}

#[derive(Debug, Default)]
struct Row {
    times: u64,
    longest_gap: Duration,
    recoveries: Vec<Duration>,
}

impl Report {
    pub(super) fn add(&mut self, round: Round) {
        let name = match round.faults[..] {
            [fault] => fault.name(),
            _ => "two at once",
        };
        let row = self.rows.entry(name).or_default();
        row.times += 1;
        row.longest_gap = row.longest_gap.max(round.work.longest_gap);
        row.recoveries.push(round.recovery);
        self.rounds += 1;
        self.answers += round.work.answers;
        self.unknown += round.work.unknown;
        self.descriptors = self.descriptors.max(round.descriptors);
        self.memory_kib = self.memory_kib.max(round.memory_kib);
    }
}

/// Formats a Markdown table and a summary line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| fault | rounds | longest time without an answer | recovery: median (longest) | lost |\n\
             | --- | --- | --- | --- | --- |"
        )?;
        for (name, row) in &self.rows {
            let mut recoveries = row.recoveries.clone();
            recoveries.sort_unstable();
            let median = recoveries.get(recoveries.len() / 2).copied().unwrap_or_default();
            let longest = recoveries.last().copied().unwrap_or_default();
            writeln!(
                f,
                "| {name} | {} | {:.2} s | {:.2} s ({:.2} s) | nothing |",
                row.times,
                row.longest_gap.as_secs_f64(),
                median.as_secs_f64(),
                longest.as_secs_f64()
            )?;
        }
        write!(
            f,
            "\n{} rounds, {} answers, {} of unknown outcome, all checks passed; at most {} descriptors \
             and {} MiB in a replica",
            self.rounds,
            self.answers,
            self.unknown,
            self.descriptors,
            self.memory_kib >> 10
        )
    }
}
