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

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may take to answer a ping before the next is asked; and once more, if none
/// has answered: all may be busy.
const PING_BOUNDS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// How long a server that answers pings may take for a request: the longest is a change of who
/// votes, of which it reports after 30 s.
const ANSWER_BOUND: Duration = Duration::from_secs(40);

/// How often it is seen whether a server answers that has nothing to say otherwise, and how long
/// it may take.
const SILENCE_INTERVAL: Duration = Duration::from_secs(5);
const SILENCE_BOUND: Duration = Duration::from_secs(5);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket: anything with a slash in it.
    Unix(PathBuf),
    /// A host and a port.
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
            _ => Err("give HOST:PORT, or the path of a Unix socket with a slash in it".into()),
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
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        let connected = timeout(CONNECT_TIMEOUT, Self::open(address)).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Connects to a server that answers a ping within a time: the kernel accepts connections also
    /// for a process that stands still.
    ///
    /// # Errors
    ///
    /// The system's, and [`io::ErrorKind::TimedOut`].
    pub async fn connect_to_live(address: &Address, bound: Duration) -> io::Result<Self> {
        let connected = async {
            let mut client = Self::open(address).await?;
            // Any answer will do, also that a password has to be said first.
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

    /// A handle on the connection, for another process.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn connection(&self) -> io::Result<OwnedFd> {
        self.connection.try_clone()
    }

    /// Asks without waiting for the reply.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub async fn send(&mut self, words: &[impl AsRef<str>]) -> io::Result<()> {
        let words = words.iter().map(|word| Reply::BulkString(word.as_ref().to_owned().into()));
        let mut buffer = BytesMut::new();
        encode(&mut buffer, &Reply::Array(words.collect()));
        self.output.write_all(&buffer).await?;
        self.output.flush().await
    }

    /// The next reply. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// The connection is lost, or what came is no reply.
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

    /// Asks, and waits for the reply.
    ///
    /// # Errors
    ///
    /// The connection is lost, or what came is no reply.
    pub async fn call(&mut self, words: &[impl AsRef<str>]) -> io::Result<Reply> {
        self.send(words).await?;
        self.reply().await
    }

    /// Leaves the connection, unended, to the other processes that have a handle on it.
    pub fn leave(self) {
        // Dropping the half that writes would end it for all of them.
        std::mem::forget(self.output);
    }

    /// Ends the connection, also where another process has a handle on it.
    pub async fn end(mut self) {
        let _ = self.output.shutdown().await;
    }
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nobody is there, or can say: each address and why.
    #[error("nobody answers: {0}")]
    NoAnswer(String),
    /// Somebody says no.
    #[error("refused: {0}")]
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

/// Asks the servers in turn, until one answers. One whose group has no majority
/// (`CLUSTERDOWN`) does not: another may do better. Nor does one that stands still.
///
/// # Errors
///
/// The first refusal, or why none of them answered.
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
            // The same server, at the socket where it takes requests of operators.
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

/// Waits until a server has not answered two pings in a row, each by a connection of its own.
pub async fn silence_of(address: &Address) {
    let mut missed = 0;
    while missed < 2 {
        sleep(SILENCE_INTERVAL).await;
        // What is refused, or breaks, is noticed by the connection that matters.
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
