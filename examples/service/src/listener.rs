use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::sockopt;
use rustix::process::umask;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

use crate::ListenAddress;

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
    /// A live process serves there.
    #[error(
        "cannot serve at {path}: another process does; stop it, or choose another path with \
         --socket", path = .0.display()
    )]
    Taken(PathBuf),
}

impl Listener {
    /// Listens at a Unix socket, made for its owner only, and at a TCP port, as far as given.
    ///
    /// # Errors
    ///
    /// It is not possible there.
    pub async fn bind(
        socket: Option<PathBuf>,
        address: Option<&ListenAddress>,
    ) -> Result<Vec<Self>, ListenError> {
        let mut listeners = Vec::new();
        if let Some(path) = socket {
            listeners.push(Self::unix(path)?);
        }
        if let Some(address) = address {
            let bound = address.bind().await;
            let bound =
                bound.map_err(|why| ListenError::Tcp { address: address.to_string(), why })?;
            listeners.extend(bound.into_iter().map(Self::Tcp));
        }
        Ok(listeners)
    }

    /// Makes the socket. One that a dead process has left is removed.
    fn unix(path: PathBuf) -> Result<Self, ListenError> {
        let bound = match bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if StdUnixStream::connect(&path).is_ok() {
                    return Err(ListenError::Taken(path));
                }
                std::fs::remove_file(&path).and_then(|()| bind(&path))
            }
            bound => bound,
        };
        match bound {
            Ok(listener) => Ok(Self::Unix(listener, path)),
            Err(why) => Err(ListenError::Unix { path, why }),
        }
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

    /// Removes the Unix socket, in the end.
    pub fn remove(path: Option<&Path>) {
        path.map(std::fs::remove_file);
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
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
