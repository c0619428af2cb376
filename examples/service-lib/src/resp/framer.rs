use crate::number;

/// Limits on a request. A request above them is a protocol error, detected before it is buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of arguments.
    pub arguments_max: usize,
    /// Maximum length of a line in bytes. Applies to requests typed by hand (*inline* commands) and
    /// to the lines that hold the length of an array or string.
    pub line_bytes_max: usize,
    /// Maximum size of a request on the wire in bytes, including lengths and line ends.
    pub request_bytes_max: usize,
}

/// Finds the end of each request, and rejects invalid ones.
///
/// A request is a flat array of byte strings. The framer scans each byte once, however many reads
/// the request arrives in. It does not accept nested arrays, so no input can make it recurse. Its
/// errors are Redis's own.
#[derive(Debug)]
pub(super) struct Framer {
    pub(super) limits: Limits,
    /// Offset in the buffer at which to resume.
    at: usize,
    /// Number of arguments still missing; `None` before the array's length is known.
    left: Option<usize>,
}

/// Kind of a complete request, with its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// An array with arguments.
    Array(usize),
    /// An array without arguments, which gets no reply.
    Nothing(usize),
    /// An inline command; the length includes the line end.
    Line(usize),
}

/// An invalid request. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number of arguments is not a number, or above the limit.
    #[error("invalid multibulk length")]
    ArrayLength,
    /// The line with the number of arguments is too long.
    #[error("too big mbulk count string")]
    ArrayLine,
    /// An argument is not a byte string.
    #[error("expected '$', got '{}'", .0.escape_ascii())]
    NotAString(u8),
    /// The length of an argument is not a number, or negative.
    #[error("invalid bulk length")]
    StringLength,
    /// The line with the length of an argument is too long.
    #[error("too big bulk count string")]
    StringLine,
    /// An argument does not end where its length says.
    #[error("expected the end of a bulk string")]
    StringEnd,
    /// An inline command is too long, or has too many words.
    #[error("too big inline request")]
    Line,
    /// An inline command has an unclosed quote, or a closing quote that no space follows.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// The request is above the limit, which is given in bytes.
    #[error("request of more than {0} bytes")]
    TooBig(usize),
    /// An HTTP request, which a web page may have made a browser send.
    #[error("this is not an HTTP server")]
    Http,
    /// Anything else.
    #[error("invalid request")]
    Invalid,
}

impl Framer {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, at: 0, left: None }
    }

    /// Finds the end of the request at the start of `buffer`. Returns `None` if the request is
    /// incomplete: call again with the same bytes and more appended. After any other result the
    /// next call must pass a buffer that starts with the next request.
    pub(super) fn find(&mut self, buffer: &[u8]) -> Result<Option<Framed>, ProtocolError> {
        let found = match buffer.first() {
            None => None,
            Some(b'*') => self.array(buffer)?,
            Some(_) => self.line(buffer, 0, ProtocolError::Line)?.map(|(_, end)| Framed::Line(end)),
        };
        if found.is_some() {
            *self = Self::new(self.limits);
        }
        Ok(found)
    }

    fn array(&mut self, buffer: &[u8]) -> Result<Option<Framed>, ProtocolError> {
        let mut left = match self.left {
            Some(left) => left,
            None => {
                let Some((text, end)) = self.line(buffer, 0, ProtocolError::ArrayLine)? else {
                    return Ok(None);
                };
                let length = number::parse(&text[1..]).ok_or(ProtocolError::ArrayLength)?;
                let Ok(length @ 1..) = usize::try_from(length) else {
                    return Ok(Some(Framed::Nothing(end)));
                };
                if length > self.limits.arguments_max {
                    return Err(ProtocolError::ArrayLength);
                }
                self.at = end;
                length
            }
        };
        while left > 0 {
            self.left = Some(left);
            let Some(end) = self.string(buffer, self.at)? else { return Ok(None) };
            self.at = end;
            left -= 1;
        }
        Ok(Some(Framed::Array(self.at)))
    }

    /// Returns the end of the byte string that starts at `from`, or `None` if it is incomplete.
    fn string(&self, buffer: &[u8], from: usize) -> Result<Option<usize>, ProtocolError> {
        match buffer.get(from) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::NotAString(*other)),
        }
        let Some((text, start)) = self.line(buffer, from, ProtocolError::StringLine)? else {
            return Ok(None);
        };
        let length = number::parse(&text[1..])
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(ProtocolError::StringLength)?;
        let end = start.checked_add(length).and_then(|end| end.checked_add(2));
        let end = end
            .filter(|end| *end <= self.limits.request_bytes_max)
            .ok_or(ProtocolError::TooBig(self.limits.request_bytes_max))?;
        match buffer.get(end - 2..end) {
            None => Ok(None),
            Some(b"\r\n") => Ok(Some(end)),
            Some(_) => Err(ProtocolError::StringEnd),
        }
    }

    /// Returns the line that starts at `from`, without its line end, and the offset of the next
    /// line. Returns `None` if the line is incomplete.
    fn line<'a>(
        &self,
        buffer: &'a [u8],
        from: usize,
        too_long: ProtocolError,
    ) -> Result<Option<(&'a [u8], usize)>, ProtocolError> {
        let rest = &buffer[from..];
        let searched = &rest[..rest.len().min(self.limits.line_bytes_max)];
        match searched.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let text = &rest[..end];
                Ok(Some((text.strip_suffix(b"\r").unwrap_or(text), from + end + 1)))
            }
            None if rest.len() >= self.limits.line_bytes_max => Err(too_long),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { arguments_max: 1 << 20, line_bytes_max: 64 << 10, request_bytes_max: 2 << 20 };

    fn find(text: &str) -> Result<Option<Framed>, ProtocolError> {
        Framer::new(LIMITS).find(text.as_bytes())
    }

    #[test]
    fn the_end_of_a_request_does_not_depend_on_how_it_is_split() {
        let request = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n\r\n$1\r\n*1\r\n";
        let length = request.len() - 4;
        let mut framer = Framer::new(LIMITS);
        for cut in 0..length {
            assert_eq!(framer.find(&request[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(framer.find(request), Ok(Some(Framed::Array(length))));
        assert_eq!(framer.find(b"PING\r\n"), Ok(Some(Framed::Line(6))), "the next one");
    }

    #[test]
    fn invalid_requests_are_rejected_with_their_errors() {
        for (text, found) in [
            ("", Ok(None)),
            ("*0\r\n", Ok(Some(Framed::Nothing(4)))),
            ("*-1\r\n", Ok(Some(Framed::Nothing(5)))),
            ("*x\r\n", Err(ProtocolError::ArrayLength)),
            ("*1048577\r\n", Err(ProtocolError::ArrayLength)),
            ("*99999999999999999999\r\n", Err(ProtocolError::ArrayLength)),
            ("*1\r\n*1\r\n", Err(ProtocolError::NotAString(b'*'))),
            ("*1\r\n\r\n", Err(ProtocolError::NotAString(b'\r'))),
            ("*1\r\n$-1\r\n", Err(ProtocolError::StringLength)),
            ("*1\r\n$99999999999999999999\r\n", Err(ProtocolError::StringLength)),
            ("*1\r\n$2097152\r\n", Err(ProtocolError::TooBig(2 << 20))),
            ("*1\r\n$5000000\r\n", Err(ProtocolError::TooBig(2 << 20))),
            ("*1\r\n$9223372036854775807\r\n", Err(ProtocolError::TooBig(2 << 20))),
            ("*1\r\n$1\r\nab\r\n", Err(ProtocolError::StringEnd)),
            ("PING\n", Ok(Some(Framed::Line(5)))),
            ("PING", Ok(None)),
        ] {
            assert_eq!(find(text), found, "{text:?}");
        }
        assert_eq!(find(&"x".repeat(LIMITS.line_bytes_max)), Err(ProtocolError::Line));
        assert_eq!(find(&"*1".repeat(LIMITS.line_bytes_max)), Err(ProtocolError::ArrayLine));
    }

    #[test]
    fn the_size_limit_applies_to_all_arguments_before_they_are_buffered() {
        let part = format!("$1000000\r\n{}\r\n", "x".repeat(1_000_000));
        let text = format!("*3\r\n{part}{part}$1000000\r\n");
        assert_eq!(find(&text), Err(ProtocolError::TooBig(2 << 20)));
    }
}
