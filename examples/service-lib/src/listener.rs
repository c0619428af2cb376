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

/// A TCP client that has been silent for so long is asked by the kernel whether it is there,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// and again at this interval,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// and is gone when it does not answer so often.
const KEEPALIVE_COUNT: u32 = 3;

/// Where clients are served.
#[derive(Debug)]
pub enum Listener {
    /// At a Unix socket.
    Unix(UnixListener, PathBuf),
    /// At a TCP port.
    Tcp(TcpListener),
}

/// A client's connection.
#[derive(Debug)]
pub enum Stream {
    /// Of this host.
    Unix(UnixStream),
    /// Of any.
    Tcp(TcpStream),
}

/// To read from, and to write to.
pub type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// Why clients cannot be served there, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// At a TCP port.
    #[error("cannot listen on {address}: {why}; choose another with --listen")]
    Tcp {
        /// The address.
        address: String,
        /// What the system says.
        why: io::Error,
    },
    /// Metrics.
    #[error("cannot serve metrics on {address}: {why}; choose another with --metrics")]
    Metrics {
        /// The address.
        address: String,
        /// What the system says.
        why: io::Error,
    },
    /// At a Unix socket.
    #[error("cannot serve at {path}: {why}; choose another path with --socket", path = path.display())]
    Unix {
        /// The path.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// There is something else.
    #[error(
        "cannot serve at {path}: it is not a socket, and is left alone; choose another path with \
         --socket", path = .0.display()
    )]
    NoSocket(PathBuf),
    /// The socket is another user's.
    #[error(
        "cannot serve at {path}: the socket belongs to user {owner}, and is left alone; choose \
         another path with --socket", path = path.display()
    )]
    Foreign {
        /// The path.
        path: PathBuf,
        /// The number of the user.
        owner: u32,
    },
    /// The path does not fit.
    #[error(
        "cannot serve at {path}: the path has {length} bytes, and the limit of Unix sockets is \
         {limit}; choose a shorter one with --socket", path = path.display()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The longest there can be.
        limit: usize,
    },
    /// There is no private directory.
    #[error("this user has no private directory for it: {0}")]
    NoPlace(io::Error),
    /// A live process serves there.
    #[error(
        "cannot serve at {path}: another process does; stop it, or choose another path with \
         --socket", path = .0.display()
    )]
    Taken(PathBuf),
}

impl Listener {
    /// Listens at a Unix socket, made for its owner only, and at a TCP port, as far as given. A
    /// server at a port has a Unix socket for operators in any case.
    ///
    /// # Errors
    ///
    /// It is not possible there.
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
        // They share one port.
        let port = listeners.first().map(TcpListener::local_addr).transpose().map_err(failed)?;
        let unix = match port {
            Some(address) => Self::beside(address.port(), socket).await?,
            None => None,
        };
        Ok(unix.into_iter().chain(listeners.into_iter().map(Self::Tcp)).collect())
    }

    /// Listens beside a TCP port, for this user's own clients and operators: at this Unix socket, or
    /// at one in the user's private directory. `None` if there is no such directory: then the server
    /// has no operators.
    ///
    /// # Errors
    ///
    /// It is not possible at `socket`.
    pub async fn beside(port: u16, socket: Option<PathBuf>) -> Result<Option<Self>, ListenError> {
        let listener = match socket {
            Some(path) => Self::Unix(socket::listen_at(&path)?, path),
            None => match socket::listen_for_operators(port) {
                Ok((listener, path)) => Self::Unix(listener, path),
                Err(why) => {
                    tracing::debug!("operators cannot reach this server without --socket: {why}");
                    return Ok(None);
                }
            },
        };
        if let Self::Unix(_, path) = &listener {
            rights::serves_operators_at(port, path);
            tracing::debug!(port, socket = %path.display(), "operators are served at the socket");
        }
        Ok(Some(listener))
    }

    /// The next client.
    ///
    /// # Errors
    ///
    /// The system's, which may pass.
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

    /// Where it is, for people.
    pub fn address(&self) -> String {
        match self {
            Self::Unix(_, path) => path.display().to_string(),
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |a| a.to_string())
            }
        }
    }

    /// Whether it is there for operators only, without having been asked for.
    pub fn is_control(&self) -> bool {
        matches!(self, Self::Unix(_, path) if socket::is_control(path))
    }

    /// Removes a Unix socket of this process in the end, or all of them without a path.
    pub fn remove(path: Option<&Path>) {
        socket::remove(path);
    }
}

/// A host that dies does not close its connections; the other side must learn of it all the
/// same.
///
/// # Errors
///
/// The system's.
pub fn keep_alive(stream: impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_COUNT)?;
    Ok(())
}

impl Stream {
    /// Returns what the client at the other end may ask for.
    pub fn rights(&self) -> Rights {
        match self {
            Self::Unix(stream) => Rights::of_unix(stream),
            Self::Tcp(stream) => Rights::of_tcp(stream),
        }
    }

    /// To read from and to write to.
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

    /// Returns the two ends as `HOST:PORT`, or `PATH:0` for a Unix socket: the server's, then the
    /// client's.
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

    /// Tells one client too many so.
    pub async fn refuse(self) {
        let (_input, mut output) = self.split();
        let said = output.write_all(b"-ERR max number of clients reached\r\n");
        let _ = timeout(Duration::from_millis(10), said).await;
    }
}
