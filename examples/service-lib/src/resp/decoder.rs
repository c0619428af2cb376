use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

use super::framer::{Framed, Framer, Limits, ProtocolError};
use super::inline;

/// Turns the bytes of a connection into requests: lists of arguments, never empty.
///
/// The arguments are views into what was read, so nothing is copied.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    framer: Framer,
}

impl Decoder {
    /// Takes requests up to these limits.
    pub fn new(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), framer: Framer::new(limits) }
    }

    /// Sets the limits of the requests that have not been taken out yet.
    pub fn set_limits(&mut self, limits: Limits) {
        self.framer.limits = limits;
    }

    /// Where to read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Takes the next whole request out of what was read, if there is one.
    ///
    /// # Errors
    ///
    /// What was read is not a request. Nothing after it can be understood.
    pub fn request(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while let Some(framed) = self.framer.find(&self.buffer)? {
            let arguments = match framed {
                Framed::Array(length) => self.array(length)?,
                Framed::Nothing(length) => {
                    self.buffer.advance(length);
                    continue;
                }
                Framed::Line(length) => {
                    let line = self.buffer.split_to(length).freeze();
                    let words = inline::split(&line).ok_or(ProtocolError::Quotes)?;
                    if words.len() > self.framer.limits.arguments_max {
                        return Err(ProtocolError::Line);
                    }
                    words
                }
            };
            match arguments.first() {
                None => {}
                Some(word) if is_http(word) => return Err(ProtocolError::Http),
                Some(_) => return Ok(Some(arguments)),
            }
        }
        Ok(None)
    }

    fn array(&mut self, length: usize) -> Result<Vec<Bytes>, ProtocolError> {
        let mut request = self.buffer.split_to(length);
        let Ok(Some((BytesFrame::Array(frames), used, _))) = decode_bytes_mut(&mut request) else {
            return Err(ProtocolError::Invalid);
        };
        if used != length {
            return Err(ProtocolError::Invalid);
        }
        let strings = frames.into_iter().map(|frame| match frame {
            BytesFrame::BulkString(bytes) => Ok(bytes),
            _ => Err(ProtocolError::Invalid),
        });
        strings.collect()
    }
}

/// Returns whether a request begins like a line of HTTP that can carry a body. Redis looks for
/// the same two words. Any web page can make the browser of a user send such a request to a
/// server on the user's own host, with lines in its body that would otherwise be commands.
fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { arguments_max: 1 << 20, line_bytes_max: 64 << 10, request_bytes_max: 2 << 20 };

    fn requests(text: &[u8], step: usize) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let mut decoder = Decoder::new(LIMITS);
        let mut requests = Vec::new();
        for part in text.chunks(step) {
            decoder.buffer().extend_from_slice(part);
            while let Some(request) = decoder.request()? {
                requests.push(request);
            }
        }
        Ok(requests)
    }

    #[test]
    fn a_line_has_no_more_words_than_a_request_has_arguments() {
        let mut decoder = Decoder::new(Limits { arguments_max: 2, ..LIMITS });
        decoder.buffer().extend_from_slice(b"GET a\r\nMGET a b\r\n");
        assert_eq!(decoder.request().map(|words| words.map(|words| words.len())), Ok(Some(2)));
        assert_eq!(decoder.request(), Err(ProtocolError::Line));
    }

    #[test]
    fn requests_come_out_whole_and_in_order() {
        let text =
            b"*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n*0\r\n\r\nset 'a b' \"\\x00\"\r\n*1\r\n$4\r\nPING\r\n";
        let expected: Vec<Vec<Bytes>> = vec![
            vec!["ECHO".into(), "\r\n".into()],
            vec!["set".into(), "a b".into(), "\0".into()],
            vec!["PING".into()],
        ];
        for step in [1, 2, 7, text.len()] {
            assert_eq!(requests(text, step).unwrap(), expected, "{step}");
        }
    }

    #[test]
    fn http_is_refused_before_its_body_is_looked_at() {
        for head in ["POST / HTTP/1.1\r\n", "Host: 127.0.0.1:7001\r\n", "*1\r\n$4\r\npost\r\n"] {
            let text = format!("{head}\r\nSET pwned yes\r\n");
            assert_eq!(requests(text.as_bytes(), 7), Err(ProtocolError::Http), "{head}");
        }
        let text = b"GET / HTTP/1.1\r\nHOST: 127.0.0.1\r\n\r\nSET pwned yes\r\n";
        let mut decoder = Decoder::new(LIMITS);
        decoder.buffer().extend_from_slice(text);
        assert_eq!(decoder.request().map(|words| words.is_some()), Ok(true));
        assert_eq!(decoder.request(), Err(ProtocolError::Http));
    }

    #[test]
    fn limits_change_between_requests() {
        let mut decoder = Decoder::new(Limits { arguments_max: 2, ..LIMITS });
        decoder.buffer().extend_from_slice(b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n*3\r\n$1\r\n");
        assert_eq!(decoder.request().map(|words| words.is_some()), Ok(true));
        decoder.set_limits(LIMITS);
        assert_eq!(decoder.request(), Ok(None));
    }

    #[test]
    fn a_tower_of_arrays_is_refused() {
        let text = "*1\r\n".repeat(300_000);
        assert_eq!(requests(text.as_bytes(), 65536), Err(ProtocolError::NotAString(b'*')));
    }

    #[test]
    fn what_comes_before_a_mistake_is_still_a_request() {
        let mut decoder = Decoder::new(LIMITS);
        decoder.buffer().extend_from_slice(b"PING\r\n*1\r\n:1\r\n");
        assert_eq!(decoder.request().unwrap().unwrap(), ["PING"]);
        assert_eq!(decoder.request(), Err(ProtocolError::NotAString(b':')));
    }
}
