//! A state machine with a state of any size.

use std::time::{Duration, Instant};

use cpg::embedded::Node;
use plainsong::{Builder, Context, ProposeError, Replica, ReplicaId, StateMachine};
use serde::{Deserialize, Serialize};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// A replica takes a snapshot at each index that is a multiple of this.
pub(crate) const SNAPSHOT_EVERY: u64 = 50;

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    numbers: Vec<u64>,
    ballast: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Command {
    /// Appends a number.
    Add(u64),
    /// Sets the size of the ballast in bytes. Its contents depend on the size alone.
    Grow(u64),
    /// Returns all numbers in order, and the sum of the ballast.
    Read,
}

impl StateMachine for Ledger {
    type Command = Command;
    type Output = (Vec<u64>, u64);

    fn apply(&mut self, _: &Context, command: Command) -> (Vec<u64>, u64) {
        match command {
            Command::Add(number) => self.numbers.push(number),
            Command::Grow(bytes) => {
                self.ballast = (0..bytes / 8).map(|at| at * at).collect();
            }
            Command::Read => {
                let sum = self.ballast.iter().fold(0, |sum: u64, number| sum.wrapping_add(*number));
                return (self.numbers.clone(), sum);
            }
        }
        (Vec::new(), 0)
    }

    plainsong::snapshot_by_clone!();
}

/// Configures a replica that takes snapshots often and keeps few log entries before them.
pub(crate) fn builder(node: &Node, id: u32, listed: &[u32]) -> Builder<Ledger> {
    Replica::builder(ReplicaId(id), Ledger::default())
        .transport(node.clone())
        .group("ledger")
        .bootstrap(listed.iter().copied().map(ReplicaId))
        .snapshot_every(SNAPSHOT_EVERY)
        .keep_entries(10)
}

/// Adds a number. Also succeeds if a snapshot contained its effect without the output.
pub(crate) fn try_add(replica: &Replica<Ledger>, number: u64) -> Result<(), ProposeError> {
    match replica.propose(Command::Add(number)).wait_timeout(DEADLINE) {
        Ok(_) | Err(ProposeError::OutputLost) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(crate) fn add(replica: &Replica<Ledger>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        try_add(replica, number).unwrap();
    }
}

pub(crate) fn read(replica: &Replica<Ledger>) -> (Vec<u64>, u64) {
    loop {
        match replica.propose(Command::Read).wait_timeout(DEADLINE) {
            // The replica lagged and received a snapshot without the output.
            Err(ProposeError::OutputLost) => {}
            answer => return answer.unwrap(),
        }
    }
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
