use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use crate::keep_alive;
use crate::resp::{Reply, encode};
use crate::rights::operators_of;

/// Maximum time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time for a server to answer a ping before the next server is asked. If no server
/// answers within the first bound, they may all be busy, and all are asked again with the second.
const PING_BOUNDS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Maximum time for a server that answers pings to answer a request. The slowest request is a
/// change of the voters, which is answered after at most 30 s.
const ANSWER_BOUND: Duration = Duration::from_secs(40);

/// Interval at which [`silence_of`] pings a server.
const SILENCE_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum time for the answer to such a ping.
const SILENCE_BOUND: Duration = Duration::from_secs(5);

/// Address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Path of a Unix socket. Any text with a slash is one.
    Unix(PathBuf),
    /// Host and port, `HOST:PORT`.
    Tcp(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.into()))
            }
            _ => Err("give HOST:PORT, or the path of a Unix socket, which must contain a slash \
                      (./NAME in the current directory)"
                .into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

/// A connection to a server.
pub struct ServerConnection {
    input: Box<dyn AsyncRead + Send + Unpin>,
    output: Box<dyn AsyncWrite + Send + Unpin>,
    connection: OwnedFd,
    buffer: BytesMut,
}

impl ServerConnection {
    /// Connects to a server, within 5 s.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error, or [`io::ErrorKind::TimedOut`].
    pub async fn connect(address: &Address) -> io::Result<Self> {
        let connected = timeout(CONNECT_TIMEOUT, Self::open(address)).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Connects to a server and checks that it answers a ping, all within `bound`. A connection
    /// alone proves nothing: the kernel accepts connections for a frozen process, too.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error, or [`io::ErrorKind::TimedOut`].
    pub async fn connect_to_live(address: &Address, bound: Duration) -> io::Result<Self> {
        let connected = async {
            let mut client = Self::open(address).await?;
            // Any reply will do, even the error that a password is required.
            client.call(&["PING"]).await?;
            Ok(client)
        };
        timeout(bound, connected).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", bound.as_secs_f64());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }

    async fn open(address: &Address) -> io::Result<Self> {
        let buffer = BytesMut::new();
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                let connection = stream.as_fd().try_clone_to_owned()?;
                let (input, output) = stream.into_split();
                Ok(Self { input: Box::new(input), output: Box::new(output), connection, buffer })
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                keep_alive(&stream)?;
                let connection = stream.as_fd().try_clone_to_owned()?;
                let (input, output) = stream.into_split();
                Ok(Self { input: Box::new(input), output: Box::new(output), connection, buffer })
            }
        }
    }

    /// Duplicates the descriptor of the connection, to pass it to another process.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn connection(&self) -> io::Result<OwnedFd> {
        self.connection.try_clone()
    }

    /// Sends a request without waiting for the reply.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is lost.
    pub async fn send(&mut self, words: &[impl AsRef<str>]) -> io::Result<()> {
        let words = words.iter().map(|word| Reply::BulkString(word.as_ref().to_owned().into()));
        let mut buffer = BytesMut::new();
        encode(&mut buffer, &Reply::Array(words.collect()));
        self.output.write_all(&buffer).await?;
        self.output.flush().await
    }

    /// Waits for the next reply and returns it. Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is lost, or the received bytes are not a reply.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            match decode_bytes_mut(&mut self.buffer) {
                Ok(Some((reply, ..))) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends a request and waits for the reply.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is lost, or the received bytes are not a reply. The
    /// server may have executed the request.
    pub async fn call(&mut self, words: &[impl AsRef<str>]) -> io::Result<Reply> {
        self.send(words).await?;
        self.reply().await
    }

    /// Releases this process's use of the connection without shutting it down, so that other
    /// processes with a descriptor of it can go on using it.
    pub fn leave(self) {
        // Dropping the writing half would shut down the connection for all processes.
        std::mem::forget(self.output);
    }

    /// Shuts down the connection for all processes that have a descriptor of it.
    pub async fn end(mut self) {
        let _ = self.output.shutdown().await;
    }
}

/// A request that no server has carried out.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// No server gave an answer. Lists each address with its error.
    #[error("no server answers: {0}")]
    NoAnswer(String),
    /// A server rejected the request.
    #[error("rejected: {0}")]
    Refused(String),
}

async fn ask(address: &Address, words: &[impl AsRef<str>], bound: Duration) -> io::Result<Reply> {
    let mut client = ServerConnection::connect_to_live(address, bound).await?;
    let answer = timeout(ANSWER_BOUND, client.call(words)).await;
    answer.unwrap_or_else(|_| {
        let seconds = ANSWER_BOUND.as_secs();
        Err(io::Error::other(format!("no answer within {seconds} s")))
    })
}

/// Sends a request to the servers in turn until one answers. A server that is frozen, or that has
/// no majority (`CLUSTERDOWN`), is skipped. A server on this host that accepts the request only on
/// its Unix socket is asked again there.
///
/// # Errors
///
/// Returns the first rejection, or the reason for which each server did not answer. A server that
/// did not answer in time may still execute the request.
pub async fn ask_first(
    addresses: &[Address],
    words: &[impl AsRef<str>],
) -> Result<Reply, Unanswered> {
    let mut whys = Vec::new();
    for bound in PING_BOUNDS {
        whys.clear();
        let mut is_any_silent = false;
        for address in addresses {
            let mut asked = ask(address, words, bound).await;
            // Asks the same server again, on the Unix socket for operators.
            if let Ok(Reply::Error(why)) = &asked
                && let Some(path) = operators_of(address, why)
            {
                asked = ask(&Address::Unix(path), words, bound).await;
            }
            match asked {
                Ok(Reply::Error(why)) if why.starts_with("CLUSTERDOWN ") => {
                    whys.push(format!("{address}: {why}"));
                }
                Ok(Reply::Error(why)) => return Err(Unanswered::Refused(why.to_string())),
                Ok(reply) => return Ok(reply),
                Err(why) => {
                    is_any_silent |= why.kind() == io::ErrorKind::TimedOut;
                    whys.push(format!("{address}: {why}"));
                }
            }
        }
        if !is_any_silent {
            break;
        }
    }
    Err(Unanswered::NoAnswer(whys.join("; ")))
}

/// Waits until a server has left two pings in a row unanswered. Each ping uses a new connection.
pub async fn silence_of(address: &Address) {
    let mut missed = 0;
    while missed < 2 {
        sleep(SILENCE_INTERVAL).await;
        // Only timeouts count. If the server is dead, the caller's own connection fails.
        match ServerConnection::connect_to_live(address, SILENCE_BOUND).await {
            Err(why) if why.kind() == io::ErrorKind::TimedOut => missed += 1,
            Ok(_) | Err(_) => missed = 0,
        }
    }
}

impl fmt::Debug for ServerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
