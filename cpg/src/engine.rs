use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Connection, Options, Result, embedded};

/// What gives closed process groups: the embedded engine or Corosync.
///
/// Written in text, as for a command line:
///
/// - `embedded:PATH`: the processes of this host that meet at the Unix socket `PATH`. No
///   daemon, no root. One ring, which may carry many groups.
/// - `corosync`: the Corosync daemon of this host, and through it the other hosts.
///
/// A third form has no text: [`embedded::Ring`] for members within one process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Engine {
    /// A node of a ring within this process.
    Process(embedded::Node),
    /// The ring of the processes that meet at this Unix socket.
    Socket(PathBuf),
    /// This host's Corosync daemon.
    #[cfg(feature = "corosync")]
    Corosync,
}

impl Engine {
    /// Opens a connection, which is a member of no group yet.
    ///
    /// # Errors
    ///
    /// [`Error::Library`](crate::Error::Library) when the engine cannot be reached,
    /// [`Error::TryAgain`](crate::Error::TryAgain) while a daemon is starting,
    /// [`Error::Timeout`](crate::Error::Timeout) when it does not answer,
    /// [`Error::Access`](crate::Error::Access) without permission,
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) when there can be no
    /// socket at the path.
    pub fn connect(&self, options: Options) -> Result<Connection> {
        match self {
            Self::Process(node) => node.connect(options),
            Self::Socket(path) => embedded::connect(path, options),
            #[cfg(feature = "corosync")]
            Self::Corosync => crate::corosync::connect(options),
        }
    }
}

/// The text does not name an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseEngineError {
    /// Neither of the known forms.
    #[error("no engine is called {0:?}: use embedded:PATH or corosync")]
    Unknown(String),
    /// `embedded:` without a path.
    #[error("the embedded engine needs a path to meet at: embedded:PATH")]
    NoPath,
    /// `corosync` in a build without it.
    #[error(
        "this program was built without Corosync: install libcpg-dev, libquorum-dev and pkg-config, \
         and build its package again with `--features corosync`"
    )]
    NoCorosync,
}

impl FromStr for Engine {
    type Err = ParseEngineError;

    fn from_str(text: &str) -> Result<Self, ParseEngineError> {
        match text.split_once(':') {
            Some(("embedded", "")) => Err(ParseEngineError::NoPath),
            Some(("embedded", path)) => Ok(Self::Socket(path.into())),
            None if text == "embedded" => Err(ParseEngineError::NoPath),
            #[cfg(feature = "corosync")]
            None if text == "corosync" => Ok(Self::Corosync),
            #[cfg(not(feature = "corosync"))]
            None if text == "corosync" => Err(ParseEngineError::NoCorosync),
            _ => Err(ParseEngineError::Unknown(text.into())),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(node) => write!(f, "embedded, node {} of this process", node.id()),
            Self::Socket(path) => write!(f, "embedded:{}", path.display()),
            #[cfg(feature = "corosync")]
            Self::Corosync => f.write_str("corosync"),
        }
    }
}

impl From<embedded::Node> for Engine {
    fn from(node: embedded::Node) -> Self {
        Self::Process(node)
    }
}
