use std::collections::{BTreeMap, BTreeSet};

use linearizability::Access;
use plainsong::{Context, StateMachine, Timestamp};
use serde::{Deserialize, Serialize};

/// Registers, each with a value that is never written twice, and alarms.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Registers {
    values: BTreeMap<u64, u64>,
    /// The alarms that are set, in the log's time in milliseconds.
    alarms: BTreeSet<u64>,
    /// What has rung: the sum of all alarms that have, which two replicas share only if the
    /// same have rung.
    rung: u64,
    /// Makes a snapshot large.
    ballast: String,
}

/// What clients do. Zero is the first value of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Answers the value.
    Read {
        /// Which register.
        register: u64,
    },
    /// Sets the value.
    Write {
        /// Which register.
        register: u64,
        /// To what.
        value: u64,
    },
    /// Sets the value if it is still that; answers the value before.
    Swap {
        /// Which register.
        register: u64,
        /// The value it has to have.
        from: u64,
        /// What it is set to.
        to: u64,
    },
    /// Sets an alarm, and answers what has rung.
    Alarm {
        /// So many milliseconds from then.
        ms: u64,
    },
}

/// The value of the register before the command, or what has rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output(pub u64);

impl StateMachine for Registers {
    type Command = Command;
    type Output = Output;
    plainsong::snapshot_by_clone!();

    fn apply(&mut self, context: &Context, command: Command) -> Output {
        let Some(access) = command.access() else {
            if let Command::Alarm { ms } = command {
                self.alarms.insert(context.time().0.saturating_add(ms));
            }
            return Output(self.rung);
        };
        let before = self.value(access.register());
        self.values.insert(access.register(), access.after(before));
        Output(before)
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.alarms.first().copied().map(Timestamp)
    }

    fn wake(&mut self, context: &Context) {
        let later = self.alarms.split_off(&context.time().0.saturating_add(1));
        self.rung = self.alarms.iter().fold(self.rung, |sum, at| sum.wrapping_add(*at));
        self.alarms = later;
    }
}

impl Registers {
    /// Registers whose snapshots have that many bytes more than they need.
    pub fn with_ballast(bytes: usize) -> Self {
        let ballast = (0..bytes).map(|at| char::from(b'a' + (at * at % 26) as u8)).collect();
        Self { ballast, ..Self::default() }
    }

    /// The value of a register.
    pub fn value(&self, register: u64) -> u64 {
        self.values.get(&register).copied().unwrap_or_default()
    }
}

impl Command {
    /// Returns the access to a register that the command is, unless it is about alarms.
    fn access(self) -> Option<Access> {
        match self {
            Self::Read { register } => Some(Access::Read { register }),
            Self::Write { register, value } => Some(Access::Write { register, value }),
            Self::Swap { register, from, to } => Some(Access::Swap { register, from, to }),
            Self::Alarm { .. } => None,
        }
    }
}

impl From<Access> for Command {
    fn from(access: Access) -> Self {
        match access {
            Access::Read { register } => Self::Read { register },
            Access::Write { register, value } => Self::Write { register, value },
            Access::Swap { register, from, to } => Self::Swap { register, from, to },
        }
    }
}
