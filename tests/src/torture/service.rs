use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Result, program};
use crate::client::{KV_PORT, Reply};

/// A service with a replica on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    Kv,
    Lock,
    Election,
}

impl Service {
    pub(super) const ALL: [Self; 3] = [Self::Kv, Self::Lock, Self::Election];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Lock => "lock",
            Self::Election => "election",
        }
    }

    /// Returns its port.
    pub(super) fn port(self) -> u16 {
        KV_PORT + self as u16
    }

    /// Returns a command that a healthy replica answers.
    pub(super) fn question(self) -> &'static str {
        match self {
            Self::Kv => "GET well",
            Self::Lock => "LIST",
            Self::Election => "STATUS",
        }
    }

    /// Returns true if this is the answer of a healthy group.
    pub(super) fn is_healthy_answer(self, answer: &Reply) -> bool {
        match (self, answer) {
            (Self::Kv | Self::Lock, answer) => !matches!(answer, Reply::Error(_)),
            (Self::Election, Reply::Text(status)) => status.contains("it runs the command"),
            (Self::Election, _) => false,
        }
    }

    pub(super) fn program(self) -> Result<PathBuf> {
        program(&format!("{}_under_test", self.name()))
    }

    /// Adds the arguments that start a replica.
    pub(super) fn arguments(self, command: &mut Command, id: u32, voters: &str, folder: &Path) {
        match self {
            Self::Kv | Self::Lock => command.args(["serve", "--timeout", "3"]),
            Self::Election => command.args(["run", "work", "--lease", "2", "--kill-after", "1"]),
        };
        command.args(["--engine", "corosync", "--voters", voters, "--id", &id.to_string()]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port())]);
        command.arg("--data-dir").arg(folder);
    }
}
