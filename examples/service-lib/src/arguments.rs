//! Parts of the programs' command lines.

use std::time::Duration;

use crate::ListenAddress;

/// What cannot work, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// The replica is not one of those that are to form the group.
    #[error(
        "replica {id} is not among the voters {voters}: name all first voters in --voters, this \
         one too"
    )]
    NotAVoter {
        /// The replica.
        id: u32,
        /// The list.
        voters: String,
    },
    /// A replica is listed twice.
    #[error("--voters names replica {0} twice: name each once")]
    VoterTwice(u32),
    /// There is no place to be durable.
    #[error("--durability disk: there is no data directory to keep the log in; add --data-dir DIR")]
    NoFolder,
    /// What is on disk is not in memory alone.
    #[error(
        "--durability memory: --data-dir {0} keeps the log on disk; leave out --data-dir, or use \
         --durability disk"
    )]
    NotInMemory(String),
    /// Whoever reaches the address could do anything.
    #[error(
        "--listen {0}: other hosts reach that address, and there are no passwords; listen on \
         127.0.0.1 or [::1], or add --allow-remote where the network is trusted"
    )]
    Remote(String),
    /// Processes cannot meet there.
    #[error("--engine {engine}: {why}")]
    Engine {
        /// The engine.
        engine: String,
        /// Why, and what to do.
        why: String,
    },
    /// Corosync does not run.
    #[error(
        "replica {id} cannot start: there is no Corosync daemon on this host; start it, e.g. by \
         `systemctl start corosync`, or use --engine embedded"
    )]
    NoDaemon {
        /// The replica.
        id: u32,
    },
    /// The replica does not start.
    #[error("replica {id} cannot start: {why}")]
    Start {
        /// The replica.
        id: u32,
        /// Why, and what to do.
        why: String,
    },
}

/// Checks `--listen` of a service without passwords.
///
/// # Errors
///
/// Other hosts reach the address, and `--allow-remote` is not given.
pub fn check_listen(listen: Option<&ListenAddress>, allow_remote: bool) -> Result<(), UsageError> {
    match listen {
        Some(address) if !address.is_loopback() && !allow_remote => {
            Err(UsageError::Remote(address.to_string()))
        }
        _ => Ok(()),
    }
}

/// Reads `--group`.
///
/// # Errors
///
/// It cannot be the name of a group.
pub fn group_name(text: &str) -> Result<String, String> {
    match text.parse::<cpg::GroupName>() {
        Ok(name) => Ok(name.as_str().into()),
        Err(_) => Err(format!(
            "a group name has 1 to {} printable ASCII characters",
            cpg::GroupName::LENGTH_MAX
        )),
    }
}

/// Reads seconds, from a thousandth to a day.
///
/// # Errors
///
/// It is no such number.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.001..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "give seconds from 0.001 to 86400".into())
}
