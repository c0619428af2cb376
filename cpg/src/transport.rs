use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Connection, Options, Result, embedded};

/// Provider of closed process groups: the embedded transport or Corosync.
///
/// Parsed from text, for example on a command line:
///
/// - `embedded:PATH`: the processes of one user on this host that meet at the Unix socket `PATH`.
///   Needs neither a daemon nor root. They form one ring, which may carry many groups.
/// - `embedded`: the same at the default path in the user's private runtime directory, which is
///   created if necessary: `/run/user/UID/plainsong/ring`, or `/run/plainsong/ring` for root.
/// - `corosync`: the Corosync daemon of this host, and through it the other hosts.
///
/// [`Transport::Process`] has no text form; create it from a node of an [`embedded::LocalRing`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Transport {
    /// A node of a ring within this process.
    Process(embedded::Node),
    /// The ring of the processes that meet at this Unix socket.
    Socket(PathBuf),
    /// The Corosync daemon of this host.
    #[cfg(feature = "corosync")]
    Corosync,
}

impl Transport {
    /// Opens a connection that is not yet a member of a group (`cpg_model_initialize(3)`).
    ///
    /// # Errors
    ///
    /// - [`Error::Library`](crate::Error::Library) if the transport cannot be reached.
    /// - [`Error::TryAgain`](crate::Error::TryAgain) while a daemon is starting.
    /// - [`Error::Timeout`](crate::Error::Timeout) if the transport does not answer.
    /// - [`Error::Access`](crate::Error::Access) without permission.
    /// - [`Error::InvalidParameter`](crate::Error::InvalidParameter) if there can be no socket at
    ///   the path.
    /// - [`Error::Security`](crate::Error::Security) if another user owns the socket or could
    ///   replace it.
    ///
    /// For a socket, [`check`](Self::check) explains the error.
    pub fn connect(&self, options: Options) -> Result<Connection> {
        match self {
            Self::Process(node) => node.connect(options),
            Self::Socket(path) => embedded::connect(path, options),
            #[cfg(feature = "corosync")]
            Self::Corosync => crate::corosync::connect(options),
        }
    }

    /// Looks for reasons why processes cannot meet at a socket, and returns the first as an error
    /// with the path and a remedy. Changes nothing. On other transports there is nothing to check.
    ///
    /// # Errors
    ///
    /// The reason why [`connect`](Self::connect) would fail.
    pub fn check(&self) -> Result<(), embedded::SocketError> {
        match self {
            Self::Socket(path) => embedded::check(path),
            _ => Ok(()),
        }
    }
}

/// Reason why a text does not name a transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTransportError {
    /// The text has none of the known forms.
    #[error("unknown transport {0:?}: use embedded, embedded:PATH or corosync")]
    Unknown(String),
    /// `embedded:` without a path.
    #[error("the embedded transport needs the path of a socket: embedded:PATH")]
    NoPath,
    /// `embedded` for a user without a private runtime directory.
    #[error(
        "this user has no runtime directory in /run/user: give a path in a private directory, \
         embedded:PATH"
    )]
    NoDefault,
    /// `corosync` in a build without the feature `corosync`.
    #[error(
        "this program was built without Corosync support: install libcpg-dev, libquorum-dev and \
         pkg-config, then rebuild its package with `--features corosync`"
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
