use std::collections::{BTreeMap, BTreeSet};

use linearizability::Access;
use plainsong::{Context, StateMachine, Timestamp};
use serde::{Deserialize, Serialize};

/// A state machine with registers and alarms. No value is written to a register twice.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Registers {
    values: BTreeMap<u64, u64>,
    /// Pending alarms, as log times in milliseconds.
    alarms: BTreeSet<u64>,
    /// Sum of the times of all alarms that have gone off. It is practically certain to differ
    /// between replicas whose alarms differ.
    rung: u64,
    /// Makes a snapshot large.
    ballast: String,
}

/// A command of a client. The initial value of a register is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Returns the value.
    Read {
        /// The register's number.
        register: u64,
    },
    /// Sets the value; returns the value before.
    Write {
        /// The register's number.
        register: u64,
        /// The new value.
        value: u64,
    },
    /// Sets the value if it is `from`; returns the value before.
    Swap {
        /// The register's number.
        register: u64,
        /// The value that the register must have.
        from: u64,
        /// The new value.
        to: u64,
    },
    /// Sets an alarm; returns the sum of the alarms that have gone off.
    Alarm {
        /// Milliseconds of log time until the alarm.
        ms: u64,
    },
}

/// The value of the register before the command, or the sum of the alarms that have gone off.
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
    /// Creates registers whose snapshots are `bytes` larger than necessary.
    pub fn with_ballast(bytes: usize) -> Self {
        let ballast = (0..bytes).map(|at| char::from(b'a' + (at * at % 26) as u8)).collect();
        Self { ballast, ..Self::default() }
    }

    /// Returns the value of a register.
    pub fn value(&self, register: u64) -> u64 {
        self.values.get(&register).copied().unwrap_or_default()
    }
}

impl Command {
    /// Returns the access to a register, or `None` for an alarm.
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
