use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

use super::framer::{Framed, Framer, Limits, ProtocolError};
use super::inline;

/// Decodes the bytes of a connection into requests. A request is a non-empty list of arguments.
///
/// The arguments of arrays are slices of the input buffer, so they are not copied.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    framer: Framer,
}

impl Decoder {
    /// Creates a decoder that rejects requests above these limits.
    pub fn new(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), framer: Framer::new(limits) }
    }

    /// Sets the limits of all requests that have not been decoded yet.
    pub fn set_limits(&mut self, limits: Limits) {
        self.framer.limits = limits;
    }

    /// Returns the input buffer, to append received bytes to.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Decodes the next request, or returns `None` if the buffer does not hold a complete one.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a request. Nothing that follows on the connection can
    /// be decoded then.
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

/// Returns true if a request starts like a line of an HTTP request with a body. Redis checks for
/// the same two words. Any web page can make its visitor's browser send such a request to a server
/// on the visitor's own host, and lines in the body would otherwise be executed as commands.
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
    fn the_limit_on_arguments_applies_to_inline_requests() {
        let mut decoder = Decoder::new(Limits { arguments_max: 2, ..LIMITS });
        decoder.buffer().extend_from_slice(b"GET a\r\nMGET a b\r\n");
        assert_eq!(decoder.request().map(|words| words.map(|words| words.len())), Ok(Some(2)));
        assert_eq!(decoder.request(), Err(ProtocolError::Line));
    }

    #[test]
    fn requests_are_decoded_whole_and_in_order() {
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
    fn http_is_rejected_before_its_body_is_decoded() {
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
    fn nested_arrays_are_rejected() {
        let text = "*1\r\n".repeat(300_000);
        assert_eq!(requests(text.as_bytes(), 65536), Err(ProtocolError::NotAString(b'*')));
    }

    #[test]
    fn requests_before_an_error_are_still_decoded() {
        let mut decoder = Decoder::new(LIMITS);
        decoder.buffer().extend_from_slice(b"PING\r\n*1\r\n:1\r\n");
        assert_eq!(decoder.request().unwrap().unwrap(), ["PING"]);
        assert_eq!(decoder.request(), Err(ProtocolError::NotAString(b':')));
    }
}
