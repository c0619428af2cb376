use std::collections::BTreeSet;
use std::path::PathBuf;

use plainsong::{Replica, ReplicaId, StartError, StateMachine};

use crate::arguments::UsageError;
use crate::{ListenAddress, LogFormat};

/// How a replica is started, on the command line of each program.
#[derive(Clone, Debug, clap::Args)]
pub struct Start {
    /// The number of this replica: from 1, stable, and never shared by two live processes.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub id: u32,
    /// The replicas whose majority commits, for the first start of a group only. Must be
    /// the same for all of them.
    #[arg(
        long,
        value_name = "NUMBER,...",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub voters: Vec<u32>,
    /// What carries the group: embedded for the processes of this user and host, embedded:PATH
    /// for those that meet at this Unix socket, corosync for the daemon of this host.
    #[arg(long, value_name = "ENGINE")]
    pub engine: cpg::Transport,
    /// Keeps the log and the snapshots in this directory, which is created if it does not exist.
    /// No other replica may use it.
    // The alias is the option's old name, which is not shown.
    #[arg(long, value_name = "DIR", alias = "data")]
    pub data_dir: Option<PathBuf>,
    /// Where acknowledged commands are kept. A replica does not start if this contradicts
    /// --data-dir, so a forgotten --data-dir is noticed.
    #[arg(long, value_name = "WHERE", value_enum)]
    pub durability: Option<Durability>,
    /// Takes a snapshot of the state at every so many entries of the log, each of which holds
    /// up to 64 KiB of commands. The same at all replicas, which compare their snapshots.
    #[arg(
        long,
        value_name = "ENTRIES",
        default_value_t = 16_384,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub snapshot_every: u64,
    /// Keeps so many entries of the log behind the newest snapshot, for replicas that lag a
    /// little; who lags more is sent the snapshot. [default: 8192, and 262144 with --data-dir, but no
    /// more than 256 MiB]
    #[arg(long, value_name = "ENTRIES")]
    pub keep_entries: Option<usize>,
    /// How it logs on stderr.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Tells metrics to Prometheus at this address, to whoever reaches it.
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<ListenAddress>,
}

/// Where what is acknowledged is kept: at a majority of the voters, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// In the memory of a majority, without --data-dir. It outlives the end of fewer voters than
    /// that; when a majority has ended, everything is lost.
    Memory,
    /// Synced to the disks of a majority, in --data-dir DIR. It outlives the end of all
    /// processes, and a power cut.
    Disk,
}

impl Start {
    /// Finds what cannot work before anything is started.
    ///
    /// # Errors
    ///
    /// Says what is wrong, and what to do about it.
    pub fn check(&self) -> Result<(), UsageError> {
        self.check_voters()?;
        self.check_durability()?;
        self.check_engine()
    }

    /// Starts the replica, in this group.
    ///
    /// # Errors
    ///
    /// Says why it cannot start, and what to do about it.
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

    /// The transport itself could only say that the path is no good.
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
