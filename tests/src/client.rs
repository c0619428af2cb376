//! A client of one replica of kv, lock or election, in the network of its node.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::rig::{self, Node};

/// Where kv listens unless it is told otherwise.
pub const KV_PORT: u16 = 7001;

/// One connection. Commands are sent in a line, as by hand.
#[derive(Debug)]
pub struct NodeClient(BufReader<TcpStream>);

/// What a command was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A value, a number or a state.
    Text(String),
    /// No value.
    Nil,
    /// Several answers.
    Array(Vec<Reply>),
    /// The command failed.
    Error(String),
}

impl NodeClient {
    /// Connects to a port of the node, from within it; `None` if nobody listens.
    ///
    /// # Errors
    ///
    /// [`rig::Error::System`] if the node's network cannot be entered.
    pub fn connect(node: &Node, port: u16) -> rig::Result<Option<Self>> {
        Ok(Self::connect_many(node, port, 1)?.pop())
    }

    /// The same for many connections, as far as they are taken.
    ///
    /// # Errors
    ///
    /// As of [`NodeClient::connect`].
    pub fn connect_many(node: &Node, port: u16, count: usize) -> rig::Result<Vec<Self>> {
        node.within_network(|| {
            let connect = |_| TcpStream::connect(("127.0.0.1", port)).ok();
            let connected = (0..count).map_while(connect);
            connected.map(|stream| Self(BufReader::new(stream))).collect()
        })
    }

    /// From now on an answer, or a place for a request, that takes longer is an error, and the connection of
    /// no use.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        let stream = self.0.get_ref();
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))
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
        reply(&mut self.0)
    }

    /// Sends a command for operators to the socket where the server accepts it. The server refuses
    /// the command at its port, and names the path of the socket, as it is in the files of `node`.
    ///
    /// # Errors
    ///
    /// As of [`NodeClient::ask`].
    pub fn ask_as_operator(
        &mut self,
        node: &Node,
        command: &str,
        patience: Duration,
    ) -> io::Result<Reply> {
        let refusal = self.ask(command)?;
        let Reply::Error(why) = &refusal else { return Ok(refusal) };
        let path =
            why.split_once("to the Unix socket ").and_then(|(_, rest)| rest.split_once(", as"));
        let Some((path, _)) = path.filter(|_| why.starts_with("NOPERM ")) else {
            return Ok(refusal);
        };
        let path = node.root().join(path.trim_start_matches('/'));
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(patience))?;
        socket.write_all(format!("{command}\r\n").as_bytes())?;
        reply(&mut BufReader::new(socket))
    }

    /// What the replica says of itself.
    ///
    /// # Errors
    ///
    /// As of [`NodeClient::ask`].
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
    /// What the replica does in its group. kv has another role of Redis's kind beside it.
    pub fn role(&self) -> &str {
        match self.field("plainsong_role") {
            "" => self.field("role"),
            role => role,
        }
    }

    /// A field by its name; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.0
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
    }
}

/// Reads an answer.
fn reply(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
    match kind {
        "+" | ":" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        "$" | "*" if rest == "-1" => Ok(Reply::Nil),
        "*" => {
            let count: usize = rest.parse().map_err(io::Error::other)?;
            let parts: Vec<Reply> = (0..count).map(|_| reply(from)).collect::<Result<_, _>>()?;
            Ok(Reply::Array(parts))
        }
        "$" => {
            let length: usize = rest.parse().map_err(io::Error::other)?;
            let mut content = vec![0; length + 2];
            from.read_exact(&mut content)?;
            Ok(Reply::Text(String::from_utf8_lossy(&content[..length]).into_owned()))
        }
        _ => Err(io::Error::other(format!("an answer like {line:?}"))),
    }
}
