use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Connection, Options, Result, embedded};

/// What gives closed process groups: the embedded transport or Corosync.
///
/// Written in text, as for a command line:
///
/// - `embedded:PATH`: the processes of this host and user that meet at the Unix socket `PATH`. No
///   daemon, no root. One ring, which may carry many groups.
/// - `embedded`: the same at a path in the user's private runtime directory, which is made if it
///   is not there: `/run/user/UID/plainsong/ring`, and `/run/plainsong/ring` for root.
/// - `corosync`: the Corosync daemon of this host, and through it the other hosts.
///
/// A third form has no text: [`embedded::LocalRing`] for members within one process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Transport {
    /// A node of a ring within this process.
    Process(embedded::Node),
    /// The ring of the processes that meet at this Unix socket.
    Socket(PathBuf),
    /// This host's Corosync daemon.
    #[cfg(feature = "corosync")]
    Corosync,
}

impl Transport {
    /// Opens a connection, which is a member of no group yet.
    ///
    /// # Errors
    ///
    /// [`Error::Library`](crate::Error::Library) when the transport cannot be reached,
    /// [`Error::TryAgain`](crate::Error::TryAgain) while a daemon is starting,
    /// [`Error::Timeout`](crate::Error::Timeout) when it does not answer,
    /// [`Error::Access`](crate::Error::Access) without permission,
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) when there can be no
    /// socket at the path, [`Error::Security`](crate::Error::Security) when another user has its
    /// place or could take it. For a socket, [`check`](Self::check) says more.
    pub fn connect(&self, options: Options) -> Result<Connection> {
        match self {
            Self::Process(node) => node.connect(options),
            Self::Socket(path) => embedded::connect(path, options),
            #[cfg(feature = "corosync")]
            Self::Corosync => crate::corosync::connect(options),
        }
    }

    /// Checks what can keep processes from meeting at a socket, and says it with the path and what
    /// to do. Changes nothing. Other transports have nothing to check.
    ///
    /// # Errors
    ///
    /// Why [`connect`](Self::connect) would fail.
    pub fn check(&self) -> Result<(), embedded::SocketError> {
        match self {
            Self::Socket(path) => embedded::check(path),
            _ => Ok(()),
        }
    }
}

/// The text does not name a transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTransportError {
    /// Neither of the known forms.
    #[error("no transport is called {0:?}: use embedded, embedded:PATH or corosync")]
    Unknown(String),
    /// `embedded:` without a path.
    #[error("the embedded transport needs a path to meet at: embedded:PATH")]
    NoPath,
    /// `embedded` for a user without a private directory.
    #[error(
        "this user has no directory in /run/user to meet in: name a path in a private directory, \
         embedded:PATH"
    )]
    NoDefault,
    /// `corosync` in a build without it.
    #[error(
        "this program was built without Corosync: install libcpg-dev, libquorum-dev and pkg-config, \
         and build its package again with `--features corosync`"
    )]
    NoCorosync,
}

impl FromStr for Transport {
    type Err = ParseTransportError;

    fn from_str(text: &str) -> Result<Self, ParseTransportError> {
        match text.split_once(':') {
            Some(("embedded", "")) => Err(ParseTransportError::NoPath),
            Some(("embedded", path)) => Ok(Self::Socket(path.into())),
            None if text == "embedded" => {
                embedded::default_path().map(Self::Socket).ok_or(ParseTransportError::NoDefault)
            }
            #[cfg(feature = "corosync")]
            None if text == "corosync" => Ok(Self::Corosync),
            #[cfg(not(feature = "corosync"))]
            None if text == "corosync" => Err(ParseTransportError::NoCorosync),
            _ => Err(ParseTransportError::Unknown(text.into())),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(node) => write!(f, "embedded, node {} of this process", node.id()),
            Self::Socket(path) => write!(f, "embedded:{}", path.display()),
            #[cfg(feature = "corosync")]
            Self::Corosync => f.write_str("corosync"),
        }
    }
}

impl From<embedded::Node> for Transport {
    fn from(node: embedded::Node) -> Self {
        Self::Process(node)
    }
}
