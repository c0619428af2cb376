use std::collections::BTreeSet;
use std::path::PathBuf;

use plainsong::{Replica, ReplicaId, StartError, StateMachine};

use crate::arguments::UsageError;
use crate::{ListenAddress, LogFormat};

/// Options that start a replica, the same in each program.
#[derive(Clone, Debug, clap::Args)]
pub struct Start {
    /// Id of this replica: a whole number from 1.
    ///
    /// It must stay the same across restarts, and no two live replicas of a group may have the same
    /// one.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    pub id: u32,
    /// Ids of the initial voters, including this replica.
    ///
    /// Used only to form a new group, with the same list at all of them; ignored once the group
    /// exists. A replica that joins an existing group needs none: it is a learner until `members
    /// add` makes it a voter.
    #[arg(
        long,
        value_name = "ID,...",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub voters: Vec<u32>,
    /// Transport between the replicas: `embedded` (processes of this user on this host, no daemon
    /// needed), `embedded:PATH` (processes that use the Unix socket PATH), or `corosync` (the
    /// Corosync daemon of this host; needs a build with the feature `corosync`).
    #[arg(long, value_name = "ENGINE")]
    pub engine: cpg::Transport,
    /// Keeps the log and the snapshots in this directory, which is created if it does not exist.
    /// Every replica needs its own. Without this option they are kept in memory.
    // The alias is the option's old name, which is not shown.
    #[arg(long, value_name = "DIR", alias = "data")]
    pub data_dir: Option<PathBuf>,
    /// Where acknowledged commands are kept.
    ///
    /// Only checks that --data-dir is given for `disk` and not given for `memory`, so that a
    /// forgotten --data-dir is noticed.
    #[arg(long, value_name = "WHERE", value_enum)]
    pub durability: Option<Durability>,
    /// Number of log entries between two snapshots of the state.
    ///
    /// An entry holds up to 64 KiB of commands. Use the same value at all replicas, because they
    /// compare their snapshots.
    #[arg(
        long,
        value_name = "ENTRIES",
        default_value_t = 16_384,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub snapshot_every: u64,
    /// Number of log entries to keep before the newest snapshot. A replica that lags by no more is
    /// sent entries; one that lags by more is sent the whole snapshot. [default: 8192; with
    /// --data-dir 262144, but at most 256 MiB]
    #[arg(long, value_name = "ENTRIES")]
    pub keep_entries: Option<usize>,
    /// Format of the log on stderr.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Serves Prometheus metrics on this address, at /metrics (no authentication).
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<ListenAddress>,
}

/// Place where acknowledged commands are kept, always by a majority of the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// In memory. Everything is lost once a majority of the voters has stopped.
    Memory,
    /// Synced to disk, in --data-dir. Nothing is lost if all processes stop or the power fails.
    Disk,
}

impl Start {
    /// Checks the options before anything is started.
    ///
    /// # Errors
    ///
    /// Returns the first contradiction, with its remedy.
    pub fn check(&self) -> Result<(), UsageError> {
        self.check_voters()?;
        self.check_durability()?;
        self.check_engine()
    }

    /// Starts the replica as a member of `group`.
    ///
    /// # Errors
    ///
    /// Returns the reason for which it cannot start, with the remedy.
    pub fn replica<M: StateMachine>(
        &self,
        group: &str,
        machine: M,
    ) -> Result<Replica<M>, UsageError> {
        let mut builder = Replica::builder(ReplicaId(self.id), machine)
            .transport(self.engine.clone())
            .group(group)
            .snapshot_every(self.snapshot_every);
        if let Some(entries) = self.keep_entries {
            builder = builder.keep_entries(entries);
        }
        if !self.voters.is_empty() {
            builder = builder.bootstrap(self.voters.iter().copied().map(ReplicaId));
        }
        if let Some(folder) = &self.data_dir {
            builder = builder.folder(folder);
        }
        builder.start().map_err(|error| match error {
            StartError::Transport(cpg::Error::Library) if self.engine.to_string() == "corosync" => {
                UsageError::NoDaemon { id: self.id }
            }
            error => UsageError::Start { id: self.id, why: error.to_string() },
        })
    }

    fn check_voters(&self) -> Result<(), UsageError> {
        let Self { id, voters, .. } = self;
        let mut seen = BTreeSet::new();
        if let Some(twice) = voters.iter().find(|voter| !seen.insert(**voter)) {
            return Err(UsageError::VoterTwice(*twice));
        }
        if voters.is_empty() || seen.contains(id) {
            return Ok(());
        }
        let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
        Err(UsageError::NotAVoter { id: *id, voters: voters.join(",") })
    }

    fn check_durability(&self) -> Result<(), UsageError> {
        match (self.durability, &self.data_dir) {
            (Some(Durability::Disk), None) => Err(UsageError::NoFolder),
            (Some(Durability::Memory), Some(folder)) => {
                Err(UsageError::NotInMemory(folder.display().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Checks the transport's socket and directory. The transport itself could only report later
    /// that it is unusable.
    fn check_engine(&self) -> Result<(), UsageError> {
        self.engine.check().map_err(|why| UsageError::Engine {
            engine: self.engine.to_string(),
            why: why.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        start: Start,
    }

    #[test]
    fn the_old_name_of_data_dir_still_works_and_is_hidden() {
        for name in ["--data-dir", "--data"] {
            let line = ["program", "--id", "1", "--engine", "embedded:ring", name, "folder"];
            let program = Program::try_parse_from(line).unwrap();
            assert_eq!(program.start.data_dir, Some(PathBuf::from("folder")), "{name}");
        }
        let help = Program::command().render_long_help().to_string();
        assert!(help.contains("--data-dir <DIR>") && !help.contains("--data "), "{help}");
    }
}
