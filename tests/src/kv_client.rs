//! A client of one replica of kv, in the network of its node.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::rig::{self, Node};

/// Where kv listens unless it is told otherwise.
const PORT: u16 = 7001;

/// One connection. Commands are sent in a line, as by hand.
#[derive(Debug)]
pub struct KvClient(BufReader<TcpStream>);

/// What a command was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A value, a number or a state.
    Text(String),
    /// No value.
    Nil,
    /// The command failed.
    Error(String),
}

impl KvClient {
    /// Connects from within the node; `None` if nobody listens.
    ///
    /// # Errors
    ///
    /// [`rig::Error::System`] if the node's network cannot be entered.
    pub fn connect(node: &Node) -> rig::Result<Option<Self>> {
        let connected = node.within_network(|| TcpStream::connect(("127.0.0.1", PORT)))?;
        Ok(connected.ok().map(|stream| Self(BufReader::new(stream))))
    }

    /// From now on an answer that takes longer is an error, and the connection of no use.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.0.get_ref().set_read_timeout(Some(patience))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    ///
    /// Those of the socket, and an answer that cannot be read. Whether the command took effect
    /// is not known then.
    pub fn ask(&mut self, command: &str) -> io::Result<Reply> {
        self.send(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
        match kind {
            "+" | ":" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            "$" if rest == "-1" => Ok(Reply::Nil),
            "$" => {
                let length: usize = rest.parse().map_err(io::Error::other)?;
                let mut content = vec![0; length + 2];
                self.0.read_exact(&mut content)?;
                Ok(Reply::Text(String::from_utf8_lossy(&content[..length]).into_owned()))
            }
            _ => Err(io::Error::other(format!("an answer like {line:?}"))),
        }
    }

    /// What the replica says of itself.
    ///
    /// # Errors
    ///
    /// As of [`KvClient::ask`].
    pub fn info(&mut self) -> io::Result<Info> {
        match self.ask("INFO replication")? {
            Reply::Text(text) => Ok(Info(text)),
            other => Err(io::Error::other(format!("INFO was answered {other:?}"))),
        }
    }
}

/// What a replica says of itself.
#[derive(Clone, Debug, Default)]
pub struct Info(pub String);

impl Info {
    /// A field by its name; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.0
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
    }
}
