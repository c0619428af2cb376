//! Checks and value parsers shared by the programs' command lines.

use std::time::Duration;

use crate::ListenAddress;

/// An invalid combination of options, or a replica that cannot start, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// `--voters` is given without the replica itself.
    #[error(
        "replica {id} is not among the voters {voters}: list every initial voter in --voters, \
         including this replica"
    )]
    NotAVoter {
        /// This replica's id.
        id: u32,
        /// The voters listed, separated by commas.
        voters: String,
    },
    /// `--voters` lists a replica twice.
    #[error("--voters lists replica {0} twice: list each replica once")]
    VoterTwice(u32),
    /// `--durability disk` without `--data-dir`.
    #[error("--durability disk needs a data directory for the log: add --data-dir DIR")]
    NoFolder,
    /// `--durability memory` with `--data-dir`.
    #[error(
        "--durability memory contradicts --data-dir {0}, which keeps the log on disk: leave out \
         --data-dir, or use --durability disk"
    )]
    NotInMemory(String),
    /// Other hosts can reach the listen address, and the service does not authenticate clients.
    #[error(
        "--listen {0}: other hosts can reach this address, and clients are not authenticated; \
         listen on 127.0.0.1 or [::1], or add --allow-remote if the network is trusted"
    )]
    Remote(String),
    /// The transport cannot be used, e.g. because its directory is unsafe.
    #[error("--engine {engine}: {why}")]
    Engine {
        /// The value of `--engine`.
        engine: String,
        /// The reason and the remedy.
        why: String,
    },
    /// No Corosync daemon runs on this host.
    #[error(
        "replica {id} cannot start: there is no Corosync daemon on this host; start it, e.g. by \
         `systemctl start corosync`, or use --engine embedded"
    )]
    NoDaemon {
        /// This replica's id.
        id: u32,
    },
    /// The replica could not be started for another reason.
    #[error("replica {id} cannot start: {why}")]
    Start {
        /// This replica's id.
        id: u32,
        /// The reason and the remedy.
        why: String,
    },
}

/// Checks `--listen` of a service that does not authenticate clients.
///
/// # Errors
///
/// Returns [`UsageError::Remote`] if other hosts can reach the address and `--allow-remote` is not
/// given.
pub fn check_listen(listen: Option<&ListenAddress>, allow_remote: bool) -> Result<(), UsageError> {
    match listen {
        Some(address) if !address.is_loopback() && !allow_remote => {
            Err(UsageError::Remote(address.to_string()))
        }
        _ => Ok(()),
    }
}

/// Parses the value of `--group`.
///
/// # Errors
///
/// Returns the valid form if the text is not a group name.
pub fn group_name(text: &str) -> Result<String, String> {
    match text.parse::<cpg::GroupName>() {
        Ok(name) => Ok(name.as_str().into()),
        Err(_) => Err(format!(
            "a group name has 1 to {} printable ASCII characters",
            cpg::GroupName::LENGTH_MAX
        )),
    }
}

/// Parses a duration in seconds, from 0.001 to 86,400 (one day). Fractions are allowed.
///
/// # Errors
///
/// Returns the valid range if the text is not a number within it.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.001..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "give seconds from 0.001 to 86400".into())
}
