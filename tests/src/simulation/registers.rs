use std::collections::BTreeMap;

use plainsong::{Context, StateMachine};
use serde::{Deserialize, Serialize};

/// A few registers, each with a value that is never written twice.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Registers {
    values: BTreeMap<u64, u64>,
}

/// What clients do with a register. Zero is its first value.
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
}

/// The value of the register before the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output(pub u64);

impl StateMachine for Registers {
    type Command = Command;
    type Output = Output;
    plainsong::snapshot_by_clone!();

    fn apply(&mut self, _: &Context, command: Command) -> Output {
        let register = command.register();
        let before = self.values.get(&register).copied().unwrap_or_default();
        let after = command.after(before);
        self.values.insert(register, after);
        Output(before)
    }
}

impl Command {
    /// Which register it is about.
    pub fn register(self) -> u64 {
        match self {
            Self::Read { register }
            | Self::Write { register, .. }
            | Self::Swap { register, .. } => register,
        }
    }

    /// The value that it may set.
    pub fn written(self) -> Option<u64> {
        match self {
            Self::Read { .. } => None,
            Self::Write { value, .. } | Self::Swap { to: value, .. } => Some(value),
        }
    }

    /// What it makes of a value.
    pub fn after(self, before: u64) -> u64 {
        match self {
            Self::Read { .. } => before,
            Self::Write { value, .. } => value,
            Self::Swap { from, to, .. } => {
                if before == from {
                    to
                } else {
                    before
                }
            }
        }
    }
}
