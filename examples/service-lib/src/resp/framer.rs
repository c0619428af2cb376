use crate::number;

/// What a request may be at most. More is a protocol error, found before it is buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most arguments.
    pub arguments_max: usize,
    /// The longest line in bytes: of a request that is written by hand (an *inline*
    /// command), and of a length in front of what follows.
    pub line_bytes_max: usize,
    /// The longest request on the wire in bytes, with all its lengths and line ends.
    pub request_bytes_max: usize,
}

/// Finds where a request ends, and refuses what is none.
///
/// A request is a flat array of byte strings. The framer walks over it once, however many
/// reads it comes in, and knows no nesting, so nothing that a client sends can make it
/// recurse. Its errors are Redis's own.
#[derive(Debug)]
pub(super) struct Framer {
    pub(super) limits: Limits,
    /// Where in the request to go on.
    at: usize,
    /// How many arguments are still to come; `None` before their number is known.
    left: Option<usize>,
}

/// What a request turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// An array of so many bytes in all.
    Array(usize),
    /// An array without arguments, which has no answer.
    Nothing(usize),
    /// A line of so many bytes, its end included.
    Line(usize),
}

/// What a client sent is not a request. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number of arguments is no number, or above the limit.
    #[error("invalid multibulk length")]
    ArrayLength,
    /// The number of arguments does not end.
    #[error("too big mbulk count string")]
    ArrayLine,
    /// An argument is not a byte string.
    #[error("expected '$', got '{}'", .0.escape_ascii())]
    NotAString(u8),
    /// The length of an argument is no number, or above the limit.
    #[error("invalid bulk length")]
    StringLength,
    /// The length of an argument does not end.
    #[error("too big bulk count string")]
    StringLine,
    /// An argument is longer than its length says.
    #[error("expected the end of a bulk string")]
    StringEnd,
    /// A line does not end.
    #[error("too big inline request")]
    Line,
    /// A line has a quote that is not closed.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// The whole is above the limit.
    #[error("request of more than {0} bytes")]
    TooBig(usize),
    /// It is a request of HTTP: a web page may have made a browser send it.
    #[error("this is no HTTP server")]
    Http,
    /// Something else.
    #[error("invalid request")]
    Invalid,
}

impl Framer {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, at: 0, left: None }
    }

    /// Looks at a buffer that starts with the request. `None` asks for more of it: then
    /// call again with the same bytes and those that follow. Otherwise the next call is
    /// about the next request.
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

    /// Where the byte string ends that starts at `from`, once all of it is there.
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

    /// The line that starts at `from`, without its end, and where the next one starts.
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
    fn a_request_ends_where_it_ends_however_it_is_cut() {
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
    fn what_is_no_request_is_told_so() {
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
    fn the_limit_holds_for_the_sum_before_it_is_buffered() {
        let part = format!("$1000000\r\n{}\r\n", "x".repeat(1_000_000));
        let text = format!("*3\r\n{part}{part}$1000000\r\n");
        assert_eq!(find(&text), Err(ProtocolError::TooBig(2 << 20)));
    }
}
