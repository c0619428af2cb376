use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use service_lib::resp::Reply;

/// A client that sends requests as lines of text, as a person would with `nc`.
pub struct TestClient {
    stream: UnixStream,
    buffer: BytesMut,
}

impl TestClient {
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(super::BOUND))?;
        Ok(Self { stream, buffer: BytesMut::new() })
    }

    pub fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).expect("the server should read");
    }

    pub fn try_reply(&mut self) -> io::Result<String> {
        loop {
            match decode_bytes_mut(&mut self.buffer) {
                Ok(Some((reply, ..))) => return Ok(text(&reply)),
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

    #[track_caller]
    pub fn reply(&mut self) -> String {
        self.try_reply().expect("a reply")
    }

    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.reply()
    }

    /// Returns the token in the next reply, which must grant a lock.
    #[track_caller]
    pub fn token(&mut self) -> u64 {
        let reply = self.reply();
        reply.strip_prefix(':').and_then(|token| token.parse().ok()).unwrap_or_else(|| {
            panic!("{reply} is not a token");
        })
    }

    #[track_caller]
    pub fn lock(&mut self, line: &str) -> u64 {
        self.send(line);
        self.token()
    }
}

/// Formats a reply on one line: `OK`, `-ERR ...`, `:1`, `"value"`, `nil`, `["a" nil]`.
pub fn text(reply: &Reply) -> String {
    match reply {
        Reply::SimpleString(text) => String::from_utf8_lossy(text).into_owned(),
        Reply::Error(error) => format!("-{}", &**error),
        Reply::Integer(number) => format!(":{number}"),
        Reply::BulkString(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Null => "nil".into(),
        Reply::Array(parts) => {
            format!("[{}]", parts.iter().map(text).collect::<Vec<_>>().join(" "))
        }
    }
}
