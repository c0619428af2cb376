use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

use crate::{ListenAddress, Rights, rights, socket};

/// Time without traffic after which the kernel probes whether a TCP peer is still alive.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Number of unanswered probes after which the kernel closes the connection.
const KEEPALIVE_COUNT: u32 = 3;

/// A socket that accepts clients.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket and its path.
    Unix(UnixListener, PathBuf),
    /// A TCP port.
    Tcp(TcpListener),
}

/// A client's connection.
#[derive(Debug)]
pub enum Stream {
    /// From a process of this host, over a Unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

/// The reading and the writing half of a connection.
pub type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// A failure to listen, with its cause and remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The TCP port for clients cannot be used.
    #[error("cannot listen on {address}: {why}; choose another address with --listen")]
    Tcp {
        /// The address.
        address: String,
        /// The operating system's error.
        why: io::Error,
    },
    /// The TCP port for metrics cannot be used.
    #[error("cannot serve metrics on {address}: {why}; choose another address with --metrics")]
    Metrics {
        /// The address.
        address: String,
        /// The operating system's error.
        why: io::Error,
    },
    /// The Unix socket cannot be created.
    #[error("cannot listen on {path}: {why}; choose another path with --socket", path = path.display())]
    Unix {
        /// The path.
        path: PathBuf,
        /// The operating system's error.
        why: io::Error,
    },
    /// The path exists and is not a socket.
    #[error(
        "cannot listen on {path}: it exists and is not a socket, so it was not replaced; choose \
         another path with --socket", path = .0.display()
    )]
    NoSocket(PathBuf),
    /// The path is a socket of another user.
    #[error(
        "cannot listen on {path}: the socket belongs to user {owner}, so it was not replaced; \
         choose another path with --socket", path = path.display()
    )]
    Foreign {
        /// The path.
        path: PathBuf,
        /// The user id of the owner.
        owner: u32,
    },
    /// The path is longer than the path of a Unix socket can be.
    #[error(
        "cannot listen on {path}: the path has {length} bytes, and Unix sockets allow at most \
         {limit}; choose a shorter path with --socket", path = path.display()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// Maximum length in bytes.
        limit: usize,
    },
    /// This user has no private directory for control sockets.
    #[error("this user has no private directory for a control socket: {0}")]
    NoPlace(io::Error),
    /// A live process listens on the socket.
    #[error(
        "cannot listen on {path}: another process is already listening there; stop it, or choose \
         another path with --socket", path = .0.display()
    )]
    Taken(PathBuf),
}

impl Listener {
    /// Listens on a Unix socket (mode 0600) and on a TCP address, as far as they are given. A
    /// server with a TCP address always gets a Unix socket for operators as well, see
    /// [`beside`](Self::beside).
    ///
    /// # Errors
    ///
    /// Returns the first address that cannot be listened on.
    pub async fn bind(
        socket: Option<PathBuf>,
        address: Option<&ListenAddress>,
    ) -> Result<Vec<Self>, ListenError> {
        let Some(address) = address else {
            let unix = |path: PathBuf| Ok(Self::Unix(socket::listen_at(&path)?, path));
            return socket.map(unix).into_iter().collect();
        };
        let failed = |why| ListenError::Tcp { address: address.to_string(), why };
        let listeners = address.bind().await.map_err(failed)?;
        // All listeners share one port.
        let port = listeners.first().map(TcpListener::local_addr).transpose().map_err(failed)?;
        let unix = match port {
            Some(address) => Self::beside(address.port(), socket).await?,
            None => None,
        };
        Ok(unix.into_iter().chain(listeners.into_iter().map(Self::Tcp)).collect())
    }

    /// Opens the Unix socket that belongs to a TCP port, for operators and for local clients of the
    /// same user: `socket`, or else a control socket in the user's private directory. Returns
    /// `None` if no `socket` is given and the private directory cannot be used: the server then
    /// accepts no operator requests.
    ///
    /// # Errors
    ///
    /// Returns an error if `socket` cannot be listened on.
    pub async fn beside(port: u16, socket: Option<PathBuf>) -> Result<Option<Self>, ListenError> {
        let listener = match socket {
            Some(path) => Self::Unix(socket::listen_at(&path)?, path),
            None => match socket::listen_for_operators(port) {
                Ok((listener, path)) => Self::Unix(listener, path),
                Err(why) => {
                    tracing::debug!(
                        "this server accepts no operator requests without --socket: {why}"
                    );
                    return Ok(None);
                }
            },
        };
        if let Self::Unix(_, path) = &listener {
            rights::serves_operators_at(port, path);
            tracing::debug!(port, socket = %path.display(), "accepting operator requests");
        }
        Ok(Some(listener))
    }

    /// Waits for the next client and returns its connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error. It may be transient, e.g. too many open files.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                keep_alive(&stream)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// Returns the path or the TCP address, for messages.
    pub fn address(&self) -> String {
        match self {
            Self::Unix(_, path) => path.display().to_string(),
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |a| a.to_string())
            }
        }
    }

    /// Returns true if this is the control socket that a server creates without `--socket`.
    pub fn is_control(&self) -> bool {
        matches!(self, Self::Unix(_, path) if socket::is_control(path))
    }

    /// Removes the Unix socket that this process created at `path`, or all that it created if
    /// `path` is `None`. Called at the end.
    pub fn remove(path: Option<&Path>) {
        socket::remove(path);
    }
}

/// Enables TCP keepalive, so that a connection to a dead host fails after about 11 s. A dead host
/// does not close its connections.
///
/// # Errors
///
/// Returns the operating system's error.
pub fn keep_alive(stream: impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_COUNT)?;
    Ok(())
}

impl Stream {
    /// Returns the rights of the client at the other end.
    pub fn rights(&self) -> Rights {
        match self {
            Self::Unix(stream) => Rights::of_unix(stream),
            Self::Tcp(stream) => Rights::of_tcp(stream),
        }
    }

    /// Splits the connection into its reading and its writing half.
    pub fn split(self) -> Halves {
        match self {
            Self::Unix(stream) => {
                let (input, output) = stream.into_split();
                (Box::new(input), Box::new(output))
            }
            Self::Tcp(stream) => {
                let (input, output) = stream.into_split();
                (Box::new(input), Box::new(output))
            }
        }
    }

    /// Returns the server's and the client's address as `HOST:PORT`, or `PATH:0` for a Unix socket.
    pub fn ends(&self) -> (String, String) {
        match self {
            Self::Unix(stream) => {
                let path = stream.local_addr().ok();
                let path = path.as_ref().and_then(|address| address.as_pathname());
                let end = format!("{}:0", path.unwrap_or(Path::new("?")).display());
                (end.clone(), end)
            }
            Self::Tcp(stream) => {
                let end = |end: io::Result<SocketAddr>| {
                    end.map_or_else(|_| "?:0".into(), |end| end.to_string())
                };
                (end(stream.local_addr()), end(stream.peer_addr()))
            }
        }
    }

    /// Rejects a client because too many are connected, with Redis's own error.
    pub async fn refuse(self) {
        let (_input, mut output) = self.split();
        let written = output.write_all(b"-ERR max number of clients reached\r\n");
        let _ = timeout(Duration::from_millis(10), written).await;
    }
}
