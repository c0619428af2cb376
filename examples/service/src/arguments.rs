//! Parts of the programs' command lines.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::LogFormat;

/// What a service tells those who look after it.
#[derive(Clone, Debug, clap::Args)]
pub struct Telling {
    /// How it logs on stderr.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Tells metrics to Prometheus at this address, to whoever reaches it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
}

/// What cannot work, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
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
    /// Whoever reaches the address could do anything.
    #[error(
        "--listen {0}: other hosts reach that address, and there are no passwords; listen on \
         127.0.0.1 or [::1], or add --allow-remote where the network is trusted"
    )]
    Remote(SocketAddr),
    /// The socket cannot be made.
    #[error(
        "--engine embedded:{path}: there is no directory {directory}; create it, or choose a path \
         in one that exists"
    )]
    NoDirectory {
        /// Of the socket.
        path: String,
        /// Where it would be.
        directory: String,
    },
}

/// Checks `--voters` for the replica `id`.
///
/// # Errors
///
/// Says what is wrong with them.
pub fn check_voters(id: u32, voters: &[u32]) -> Result<(), Mistake> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = voters.iter().find(|voter| !seen.insert(**voter)) {
        return Err(Mistake::VoterTwice(*twice));
    }
    if voters.is_empty() || seen.contains(&id) {
        return Ok(());
    }
    let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
    Err(Mistake::NotAVoter { id, voters: voters.join(",") })
}

/// Checks `--listen` of a service without passwords.
///
/// # Errors
///
/// Other hosts reach the address, and `--allow-remote` is not given.
pub fn check_listen(listen: Option<SocketAddr>, allow_remote: bool) -> Result<(), Mistake> {
    match listen {
        Some(address) if !address.ip().is_loopback() && !allow_remote => {
            Err(Mistake::Remote(address))
        }
        _ => Ok(()),
    }
}

/// Checks `--engine`: the engine itself could only say that the path is no good.
///
/// # Errors
///
/// There is no directory for its socket.
pub fn check_engine(engine: &cpg::Engine) -> Result<(), Mistake> {
    let cpg::Engine::Socket(path) = engine else { return Ok(()) };
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() || parent.is_dir() => Ok(()),
        None => Ok(()),
        Some(parent) => Err(Mistake::NoDirectory {
            path: path.display().to_string(),
            directory: parent.display().to_string(),
        }),
    }
}

/// Reads `--engine` of a program that is the package `package`.
///
/// # Errors
///
/// It is none, or not built in; then the command that builds it in is named.
pub fn engine(text: &str, package: &str) -> Result<cpg::Engine, String> {
    text.parse().map_err(|error| match error {
        cpg::ParseEngineError::NoCorosync => {
            format!("{error}: cargo build --release -p {package} --features corosync")
        }
        error => error.to_string(),
    })
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
