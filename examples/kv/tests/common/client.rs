use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kv::resp::Reply;

/// A minimal client that sends and receives raw bytes.
pub struct TestClient<S = TcpStream> {
    stream: S,
    buffer: BytesMut,
}

impl TestClient {
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

impl<S: Read + Write> TestClient<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Returns the connection. Panics if bytes were read ahead from it.
    pub fn into_stream(self) -> S {
        assert!(self.buffer.is_empty(), "bytes were read ahead");
        self.stream
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one reply. Returns `UnexpectedEof` if the server has closed the connection.
    pub fn reply(&mut self) -> io::Result<Reply> {
        loop {
            match decode(&self.buffer) {
                Ok(Some((reply, used))) => {
                    self.buffer.advance(used);
                    return Ok(reply);
                }
                Ok(None) => {}
                Err(why) => return Err(io::Error::other(why)),
            }
            let mut part = [0; 65536];
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

    /// Sends the words of a line as a request, and returns the reply as formatted by [`text`].
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

/// Decodes a reply in either version of the protocol. Returns its length as well, or `None` if it
/// is incomplete.
fn decode(bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|why| why.to_string())?;
    let (mark, head) = head.trim_end_matches('\r').split_at(1);
    let (number, end) = (|| head.parse::<i64>().map_err(|_| format!("{mark}{head}")), end + 1);
    let reply = match mark {
        "+" => Reply::SimpleString(head.to_owned().into()),
        "-" => Reply::Error(head.into()),
        ":" => Reply::Integer(number()?),
        "," => Reply::Double(head.parse().map_err(|_| head)?),
        "#" => Reply::Boolean(head == "t"),
        "_" => Reply::Null,
        "$" if number()? < 0 => Reply::Null,
        "*" if number()? < 0 => Reply::NullArray,
        "$" | "=" => {
            let length = number()? as usize;
            let Some(text) = bytes.get(end..end + length) else { return Ok(None) };
            if bytes.len() < end + length + 2 {
                return Ok(None);
            }
            let text = Bytes::copy_from_slice(text);
            let reply = if mark == "=" {
                Reply::Verbatim(text.slice(4..))
            } else {
                Reply::BulkString(text)
            };
            return Ok(Some((reply, end + length + 2)));
        }
        "*" | "~" | ">" | "%" => return decode_list(mark, number()? as usize, bytes, end),
        _ => return Err(format!("not a reply: {mark}{head}")),
    };
    Ok(Some((reply, end)))
}

fn decode_list(
    mark: &str,
    count: usize,
    bytes: &[u8],
    mut at: usize,
) -> Result<Option<(Reply, usize)>, String> {
    let mut parts = Vec::new();
    for _ in 0..count * if mark == "%" { 2 } else { 1 } {
        let Some((part, used)) = decode(&bytes[at..])? else { return Ok(None) };
        parts.push(part);
        at += used;
    }
    let reply = match mark {
        "~" => Reply::Set(parts),
        ">" => Reply::Push(parts),
        "%" => Reply::Map(parts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()),
        _ => Reply::Array(parts),
    };
    Ok(Some((reply, at)))
}

/// Formats a reply on one line: `OK`, `-ERR ...`, `:1`, `"value"`, `nil`, `nil-list`, `["a" nil]`;
/// in version 3 also `{"key" :1}`, `~["a"]`, `>["message"]`, `,1.5`, `#true`, `="text"`.
pub fn text(reply: &Reply) -> String {
    let plain = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let list = |parts: &[Reply]| parts.iter().map(text).collect::<Vec<_>>().join(" ");
    match reply {
        Reply::SimpleString(text) => plain(text),
        Reply::Error(error) => format!("-{error}"),
        Reply::Integer(number) => format!(":{number}"),
        Reply::BulkString(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Verbatim(bytes) => format!("=\"{}\"", bytes.escape_ascii()),
        Reply::Null => "nil".into(),
        Reply::NullArray => "nil-list".into(),
        Reply::Array(parts) => format!("[{}]", list(parts)),
        Reply::Set(parts) => format!("~[{}]", list(parts)),
        Reply::Push(parts) => format!(">[{}]", list(parts)),
        Reply::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{} {}", text(key), text(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
        }
        Reply::Double(number) => format!(",{number}"),
        Reply::Boolean(is_true) => format!("#{is_true}"),
    }
}
