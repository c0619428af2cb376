//! A client of one replica of kv, lock or election, in the network of its node.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::rig::{self, Node};

/// The default port of kv.
pub const KV_PORT: u16 = 7001;

/// One connection. Commands are sent as lines of text, as with telnet.
#[derive(Debug)]
pub struct NodeClient(BufReader<TcpStream>);

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A value, a number or a state.
    Text(String),
    /// No value.
    Nil,
    /// Several values.
    Array(Vec<Reply>),
    /// The command failed.
    Error(String),
}

impl NodeClient {
    /// Connects to a port of the node, from within its network. Returns `None` if no program
    /// listens.
    ///
    /// # Errors
    ///
    /// [`rig::Error::System`] if the node's network cannot be entered.
    pub fn connect(node: &Node, port: u16) -> rig::Result<Option<Self>> {
        Ok(Self::connect_many(node, port, 1)?.pop())
    }

    /// Opens up to `count` connections; fewer if the program accepts no more.
    ///
    /// # Errors
    ///
    /// As for [`NodeClient::connect`].
    pub fn connect_many(node: &Node, port: u16, count: usize) -> rig::Result<Vec<Self>> {
        node.within_network(|| {
            let connect = |_| TcpStream::connect(("127.0.0.1", port)).ok();
            let connected = (0..count).map_while(connect);
            connected.map(|stream| Self(BufReader::new(stream))).collect()
        })
    }

    /// Sets the timeout of sending and receiving. After a timeout, which is an error, the
    /// connection must not be used any more.
    ///
    /// # Errors
    ///
    /// Errors of the socket.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        let stream = self.0.get_ref();
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))
    }

    /// Sends bytes without interpreting them.
    ///
    /// # Errors
    ///
    /// Errors of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    ///
    /// Errors of the socket, and an answer that cannot be parsed. After an error, the command may
    /// still take effect.
    pub fn ask(&mut self, command: &str) -> io::Result<Reply> {
        self.send(format!("{command}\r\n").as_bytes())?;
        reply(&mut self.0)
    }

    /// Sends an operator's command. The server rejects it at its port and names the path of its
    /// Unix socket, which this method finds in the files of `node` and then uses.
    ///
    /// # Errors
    ///
    /// As for [`NodeClient::ask`].
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

    /// Returns the replica's status.
    ///
    /// # Errors
    ///
    /// As for [`NodeClient::ask`].
    pub fn info(&mut self) -> io::Result<Info> {
        match self.ask("INFO replication")? {
            Reply::Text(text) => Ok(Info(text)),
            other => Err(io::Error::other(format!("unexpected answer to INFO: {other:?}"))),
        }
    }
}

/// A replica's status, as `INFO replication` prints it.
#[derive(Clone, Debug, Default)]
pub struct Info(pub String);

impl Info {
    /// Returns the replica's role in its group. kv also has a field `role` for the Redis role.
    pub fn role(&self) -> &str {
        match self.field("plainsong_role") {
            "" => self.field("role"),
            role => role,
        }
    }

    /// Returns the value of a field, or an empty string.
    pub fn field(&self, name: &str) -> &str {
        self.0
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
    }
}

/// Reads one answer.
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
        _ => Err(io::Error::other(format!("an answer that is not RESP: {line:?}"))),
    }
}
