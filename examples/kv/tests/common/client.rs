use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kv::resp::Reply;
use redis_protocol::resp2::decode::decode_bytes_mut;

/// A client with nothing between it and the bytes.
pub struct Client<S = TcpStream> {
    stream: S,
    buffer: BytesMut,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self::over(stream))
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one reply; `UnexpectedEof` when the server has closed the connection.
    pub fn reply(&mut self) -> io::Result<Reply> {
        loop {
            match decode_bytes_mut(&mut self.buffer) {
                Ok(Some((reply, _, _))) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
            let mut part = [0; 16384];
            match self.stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.buffer.extend_from_slice(&part[..length]),
            }
        }
    }

    pub fn call(&mut self, arguments: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.send(&request(arguments))?;
        self.reply()
    }

    /// Calls with words from a line, and tells the reply as [`text`] does.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        text(&self.call(&words).expect("a reply"))
    }
}

pub fn request(arguments: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend(argument);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// A reply on one line: `OK`, `-ERR ...`, `:1`, `"value"`, `nil`, `["a" nil]`.
pub fn text(reply: &Reply) -> String {
    let plain = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match reply {
        Reply::SimpleString(text) => plain(text),
        Reply::Error(error) => format!("-{}", &**error),
        Reply::Integer(number) => format!(":{number}"),
        Reply::BulkString(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Null => "nil".into(),
        Reply::Array(parts) => {
            format!("[{}]", parts.iter().map(text).collect::<Vec<_>>().join(" "))
        }
    }
}
