use std::collections::BTreeSet;
use std::fmt;

use plainsong::Timestamp;
use plainsong::engine::{Entry, EntryPayload};
use serde::{Deserialize, Serialize};

use super::words;

/// The state machine of all scenarios: a list of the applied commands, and an alarm clock.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct State {
    commands: Vec<String>,
    /// Times at which it wants to be woken.
    alarms: BTreeSet<Timestamp>,
    /// Makes a snapshot as large as the scenario demands.
    ballast: String,
}

impl State {
    pub(super) fn new(kib: usize) -> Self {
        let ballast = "-".repeat(kib << 10);
        Self { commands: Vec::new(), alarms: BTreeSet::new(), ballast }
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        self.alarms = self.alarms.split_off(&Timestamp(entry.time.0 + 1));
        let EntryPayload::Batch(batch) = &entry.payload else { return };
        for command in words::commands(batch) {
            let after = command.strip_prefix("wake-").and_then(|ms| ms.parse::<u64>().ok());
            self.alarms.extend(after.map(|ms| Timestamp(entry.time.0 + ms)));
            self.commands.push(command);
        }
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.alarms.first().copied()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words::list(&self.commands))
    }
}
