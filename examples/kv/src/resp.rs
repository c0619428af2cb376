//! The Redis protocol, versions 2 and 3.
//!
//! Requests are the same in both versions; the crate `service_lib` decodes them. Replies have more
//! types in version 3. A [`Reply`] always uses the richer type, and [`encode`] writes the form that
//! the connection's version has for it.

use std::fmt::{Display, Write as _};

use bytes::{BufMut, Bytes, BytesMut};

pub use service_lib::resp::{Decoder, Limits, ProtocolError};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Version 2, the version of a connection until `HELLO 3`.
    #[default]
    Resp2,
    /// Version 3, which adds maps, sets, doubles, booleans, verbatim strings, a single null and
    /// push messages.
    Resp3,
}

/// A reply to a request, or an unsolicited message.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A short text such as `OK`.
    SimpleString(Bytes),
    /// An error; the first word is a code in capitals.
    Error(String),
    /// A number.
    Integer(i64),
    /// A byte string.
    BulkString(Bytes),
    /// Human-readable text. In version 2 a byte string.
    Verbatim(Bytes),
    /// No value.
    Null,
    /// No value where a list was expected. In version 3 the same as [`Null`](Self::Null).
    NullArray,
    /// A list.
    Array(Vec<Reply>),
    /// Keys and values. In version 2 a list of alternating keys and values.
    Map(Vec<(Reply, Reply)>),
    /// A list without order or duplicates. In version 2 a list.
    Set(Vec<Reply>),
    /// An unsolicited message. In version 2 a list.
    Push(Vec<Reply>),
    /// A floating point number. In version 2 a byte string.
    Double(f64),
    /// A Boolean. In version 2 the number 1 or 0.
    Boolean(bool),
}

impl Protocol {
    /// Returns the number of the version.
    pub fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Creates an error reply. By convention its first word is an error code in capitals. Line breaks
/// are replaced by spaces, because the protocol allows one line only.
pub fn error(what: impl Display) -> Reply {
    Reply::Error(what.to_string().replace(['\r', '\n'], " "))
}

/// Appends a reply to `buffer`, encoded for a protocol version.
pub fn encode(buffer: &mut BytesMut, reply: &Reply, protocol: Protocol) {
    let is_3 = protocol == Protocol::Resp3;
    match reply {
        Reply::SimpleString(text) => line(buffer, b'+', text),
        Reply::Error(text) => line(buffer, b'-', text.as_bytes()),
        Reply::Integer(number) => head(buffer, b':', *number),
        Reply::BulkString(bytes) => bulk(buffer, bytes),
        Reply::Verbatim(text) if is_3 => {
            head(buffer, b'=', text.len() as i64 + 4);
            buffer.put_slice(b"txt:");
            buffer.put_slice(text);
            buffer.put_slice(b"\r\n");
        }
        Reply::Verbatim(text) => bulk(buffer, text),
        Reply::Null | Reply::NullArray if is_3 => buffer.put_slice(b"_\r\n"),
        Reply::Null => buffer.put_slice(b"$-1\r\n"),
        Reply::NullArray => buffer.put_slice(b"*-1\r\n"),
        Reply::Array(parts) => list(buffer, b'*', parts, protocol),
        Reply::Set(parts) => list(buffer, if is_3 { b'~' } else { b'*' }, parts, protocol),
        Reply::Push(parts) => list(buffer, if is_3 { b'>' } else { b'*' }, parts, protocol),
        Reply::Map(pairs) => {
            let (mark, per_pair) = if is_3 { (b'%', 1) } else { (b'*', 2) };
            head(buffer, mark, per_pair * pairs.len() as i64);
            for (key, value) in pairs {
                encode(buffer, key, protocol);
                encode(buffer, value, protocol);
            }
        }
        Reply::Double(number) if is_3 => line(buffer, b',', double(*number).as_bytes()),
        Reply::Double(number) => bulk(buffer, double(*number).as_bytes()),
        Reply::Boolean(is_true) if is_3 => line(buffer, b'#', if *is_true { b"t" } else { b"f" }),
        Reply::Boolean(is_true) => head(buffer, b':', i64::from(*is_true)),
    }
}

fn line(buffer: &mut BytesMut, mark: u8, text: &[u8]) {
    buffer.reserve(text.len() + 3);
    buffer.put_u8(mark);
    buffer.put_slice(text);
    buffer.put_slice(b"\r\n");
}

fn head(buffer: &mut BytesMut, mark: u8, number: i64) {
    buffer.put_u8(mark);
    // Formatting is slow, and most numbers are small.
    match number {
        0..10 => buffer.put_u8(b'0' + number as u8),
        // Writing to a buffer that grows cannot fail.
        _ => drop(write!(buffer, "{number}")),
    }
    buffer.put_slice(b"\r\n");
}

fn bulk(buffer: &mut BytesMut, bytes: &[u8]) {
    buffer.reserve(bytes.len() + 16);
    head(buffer, b'$', bytes.len() as i64);
    buffer.put_slice(bytes);
    buffer.put_slice(b"\r\n");
}

fn list(buffer: &mut BytesMut, mark: u8, parts: &[Reply], protocol: Protocol) {
    head(buffer, mark, parts.len() as i64);
    for part in parts {
        encode(buffer, part, protocol);
    }
}

/// Returns the shortest text that parses back to the same number.
fn double(number: f64) -> String {
    if number.is_nan() { "nan".into() } else { number.to_string() }
}

/// Converts replies of operator commands, which use the types of version 2 only.
impl From<service_lib::resp::Reply> for Reply {
    fn from(reply: service_lib::resp::Reply) -> Self {
        use service_lib::resp::Reply as Old;
        match reply {
            Old::SimpleString(text) => Self::SimpleString(text),
            Old::Error(text) => Self::Error(text.to_string()),
            Old::Integer(number) => Self::Integer(number),
            Old::BulkString(bytes) => Self::BulkString(bytes),
            Old::Array(parts) => Self::Array(parts.into_iter().map(Self::from).collect()),
            Old::Null => Self::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply, protocol: Protocol) -> String {
        let mut buffer = BytesMut::new();
        encode(&mut buffer, reply, protocol);
        String::from_utf8(buffer.to_vec()).unwrap()
    }

    #[test]
    fn an_error_stays_on_its_line() {
        assert_eq!(encoded(&error("ERR a\r\nb"), Protocol::Resp2), "-ERR a  b\r\n");
    }

    #[test]
    fn each_type_is_encoded_for_both_versions() {
        let (one, two) = (Reply::Integer(1), Reply::Integer(-12));
        for (reply, resp2, resp3) in [
            (Reply::SimpleString("OK".into()), "+OK\r\n", "+OK\r\n"),
            (two.clone(), ":-12\r\n", ":-12\r\n"),
            (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (Reply::BulkString("".into()), "$0\r\n\r\n", "$0\r\n\r\n"),
            (
                Reply::BulkString("x".repeat(12).into()),
                "$12\r\nxxxxxxxxxxxx\r\n",
                "$12\r\nxxxxxxxxxxxx\r\n",
            ),
            (Reply::Verbatim("hi".into()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::NullArray, "*-1\r\n", "_\r\n"),
            (
                Reply::Array(vec![one.clone(), Reply::Null]),
                "*2\r\n:1\r\n$-1\r\n",
                "*2\r\n:1\r\n_\r\n",
            ),
            (Reply::Map(vec![(one.clone(), two)]), "*2\r\n:1\r\n:-12\r\n", "%1\r\n:1\r\n:-12\r\n"),
            (Reply::Set(vec![one.clone()]), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
            (Reply::Push(vec![one]), "*1\r\n:1\r\n", ">1\r\n:1\r\n"),
            (Reply::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (Reply::Boolean(true), ":1\r\n", "#t\r\n"),
            (Reply::Boolean(false), ":0\r\n", "#f\r\n"),
        ] {
            assert_eq!(encoded(&reply, Protocol::Resp2), resp2, "{reply:?}");
            assert_eq!(encoded(&reply, Protocol::Resp3), resp3, "{reply:?}");
        }
    }
}
